"""The process of the object detector: `python -m shoppable.detector --help`."""

import sys
from collections.abc import Sequence

from shoppable.detector.server import build
from shoppable.detector.settings import DetectorSettings
from shoppable.runtime.server import run
from shoppable.runtime.settings import load_or_exit


def main(arguments: Sequence[str]) -> None:
    """Serve with the settings of the command line's `arguments`, the environment and the settings file."""
    run(load_or_exit(DetectorSettings, arguments, prog="shoppable-detector"), build)


if __name__ == "__main__":
    main(sys.argv[1:])
