"""One suite owns a data folder at a time, and others can find it.

The matcher's index takes one process. Instead of failing inside it, a second command that wants the same data finds
the suite that has it, and talks to that one.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LOCK = "suite.lock"
_ENDPOINTS = "suite.json"


class DataFolderError(Exception):
    """The folder cannot be used; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the services listen, as host:port; empty for one that does not run."""

    orchestrator: str = ""
    matcher: str = ""
    detector: str = ""
    decoder: str = ""
    inference: str = ""
    pid: int = 0


class DataFolder:
    """A data folder that is ours until `release`; the system releases it if we die."""

    def __init__(self, folder: Path) -> None:
        """Claims the folder and makes it if it is not there.

        Raises:
            DataFolderError: Another suite has it, or it cannot be written.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderError(f"the data folder {folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise DataFolderError(
                f"other local services use the data folder {folder}: stop them, or name another folder with --data"
            ) from error
        (folder / _ENDPOINTS).unlink(missing_ok=True)

    def publish(self, endpoints: Endpoints) -> None:
        """Tells other commands where the services are."""
        path = self.folder / _ENDPOINTS
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(endpoints)), encoding="utf-8")
        scratch.replace(path)

    def release(self) -> None:
        """Gives the folder up."""
        (self.folder / _ENDPOINTS).unlink(missing_ok=True)
        os.close(self._lock)


def discover(folder: Path) -> Endpoints | None:
    """Finds the suite that owns a data folder.

    Returns:
        Its endpoints, or None if nobody owns the folder.

    Raises:
        DataFolderError: A suite owns it that is not ready yet, or is about to end.
    """
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return Endpoints(**json.loads((folder / _ENDPOINTS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataFolderError(
                f"local services with the data folder {folder} are just starting or stopping: try again in a moment"
            ) from error
    finally:
        os.close(lock)
    return None
