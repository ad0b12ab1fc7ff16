"""The folder of an embedded index: who owns it, and files that are there whole or not at all."""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any


class FolderInUseError(RuntimeError):
    """Another process owns the folder."""


class FolderLock:
    """Ownership of a folder; ends with `release` or with the process."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, making it if it is missing.

        Raises:
            FolderInUseError: Another process has it; the text names it.
            OSError: It cannot be made or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "owner"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise FolderInUseError(
                f"the catalogue folder {folder.resolve()} is in use by process {owner}: stop it, or set another"
                " data_dir; an embedded index has one owner"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the folder back."""
        os.close(self._descriptor)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a file durably: after a crash there is the old one or the new one. Blocking."""
    scratch = path.with_suffix(".new")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    Raises:
        ValueError: It is none.
        OSError: It cannot be read.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable. Blocking."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot, and keep entries safe by themselves.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
