"""Files that are open for reading, and how those under the allowed roots are opened.

A file is opened step by step from its root, no step through a symbolic link, so that nobody can exchange a folder
between the check and the opening. Nothing but plain files is opened: no device, pipe, socket or folder.
"""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from shoppable.decoder.errors import RefusedVideoError, oversize
from shoppable.runtime.errors import NotFoundError, PermissionDeniedError, UnavailableError

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class OpenFile:
    """A file that is open for reading. As a context manager it closes the file.

    One thread at a time reads it, and waits where its bytes are not here yet. Besides OSError its calls may raise
    ServiceError and StoppedError.
    """

    file: BinaryIO
    size_bytes: int | None  # None: not known yet
    # If not, FFmpeg must not seek: the file is read once, while it arrives. It can still be rewound while little has
    # been read, and sought to its end, which waits for that.
    seekable: bool = True
    release: Callable[[], None] | None = None  # what else is closed with it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, and what belongs to it; safe to repeat."""
        try:
            self.file.close()
        finally:
            if self.release is not None:
                self.release()


def in_memory(data: bytes) -> OpenFile:
    """Return bytes as a file."""
    return OpenFile(file=io.BytesIO(data), size_bytes=len(data))


class FileRoots:
    """The folders whose files may be read."""

    def __init__(self, roots: Sequence[Path], *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._roots = tuple(os.path.realpath(root) for root in roots)

    def open(self, path: str, *, uri: str, field: str) -> OpenFile:
        """Open a plain file below one of the roots. Blocking.

        Links are followed as long as they stay below the roots. Whether a path outside exists is not told.

        Raises:
            PermissionDeniedError: The path leads out of the roots, or may not be read.
            NotFoundError: No such file.
            RefusedVideoError: It is no plain file.
            UnavailableError: The file system fails.
        """
        real = os.path.realpath(path)
        root = next((root for root in self._roots if _is_below(real, root)), None)
        if root is None:
            raise _outside()
        try:
            return self._open_below(root, Path(real).relative_to(root).parts or (".",), field)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError("file", uri, "there is no such file") from error
        except PermissionError as error:
            raise PermissionDeniedError("the decoder may not read this file", reason="FILE_NOT_READABLE") from error
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link that was no link a moment ago, or a circle of them
                raise _outside() from error
            if error.errno == errno.ENAMETOOLONG:
                raise NotFoundError("file", uri, "there is no such file") from error
            raise UnavailableError("the file cannot be opened now", reason="FILE_SYSTEM_FAILED") from error

    def _open_below(self, root: str, parts: Sequence[str], field: str) -> OpenFile:
        with contextlib.ExitStack() as stack:
            # The operator's own path may lead through links.
            folder = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
            stack.callback(os.close, folder)
            for part in parts[:-1]:
                folder = os.open(part, _FOLDER, dir_fd=folder)
                stack.callback(os.close, folder)
            # Some devices do things when they are opened: look first, and again at what was opened.
            _require_plain(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), field)
            descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
        file = os.fdopen(descriptor, "rb", buffering=0)
        try:
            found = os.fstat(descriptor)
            _require_plain(found, field)
            self._require_size(found.st_size, field)
        except BaseException:
            file.close()
            raise
        return OpenFile(file=file, size_bytes=found.st_size)

    def _require_size(self, size: int, field: str) -> None:
        if size > self._max_bytes:
            raise oversize(field, limit=self._max_bytes, value=size)


def _is_below(path: str, root: str) -> bool:
    return os.path.commonpath((path, root)) == root


def _outside() -> PermissionDeniedError:
    return PermissionDeniedError(
        "the URI leads out of the folders that this decoder's operator allowed", reason="OUTSIDE_ROOTS"
    )


def _require_plain(found: os.stat_result, field: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise _outside()
    if not stat.S_ISREG(found.st_mode):
        raise RefusedVideoError(field, "must be a plain file", reason="NOT_A_FILE")
