"""The orchestrator's process: `python -m shoppable.orchestrator --help`."""

import sys
from collections.abc import Sequence

from shoppable.orchestrator.server import build
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.server import run
from shoppable.runtime.settings import load_or_exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until stopped; `arguments` default to the command line's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    run(load_or_exit(OrchestratorSettings, arguments, prog="shoppable-orchestrator"), build)


if __name__ == "__main__":
    main()
