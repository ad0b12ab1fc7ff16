"""The decoder's process: `python -m shoppable.decoder --help`."""

import sys
from collections.abc import Sequence

from shoppable.decoder.server import build
from shoppable.decoder.settings import DecoderSettings
from shoppable.runtime.server import run
from shoppable.runtime.settings import load_or_exit


def main(arguments: Sequence[str]) -> None:
    """Serve until stopped, as the command line's `arguments` say."""
    run(load_or_exit(DecoderSettings, arguments, prog="shoppable-decoder"), build)


if __name__ == "__main__":
    main(sys.argv[1:])
