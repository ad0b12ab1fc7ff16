"""Runs the product matcher: `python -m shoppable.matcher`."""

import sys
from collections.abc import Sequence

from shoppable.matcher.server import build
from shoppable.matcher.settings import MatcherSettings
from shoppable.runtime.server import run
from shoppable.runtime.settings import load_or_exit


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    run(load_or_exit(MatcherSettings, arguments, prog="shoppable-matcher"), build)


if __name__ == "__main__":
    main(sys.argv[1:])
