"""The wall clock of processes that are started meanwhile, put forward and back while they run: see `sitecustomize`."""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest


class FaultyClock:
    """A clock that is right until it is `wrong_by` some seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._environment = pytest.MonkeyPatch()
        self._set(0)

    def __enter__(self) -> Self:
        self._environment.setenv("FAULTY_CLOCK", str(self._path))
        self._environment.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        return self

    def __exit__(self, *error: object) -> None:
        self._environment.undo()

    @contextlib.contextmanager
    def wrong_by(self, seconds: float) -> Iterator[None]:
        """Put the clock forward, or back, while inside."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, seconds: float) -> None:
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:  # in place: processes have it mapped
            file.write(struct.pack("d", seconds))
