"""Finds the bytes of a video: files under the allowed roots, and uploads.

A file is opened step by step from its root, no step through a symbolic link, so that nobody can exchange a folder
between the check and the opening. Nothing but plain files is opened: no device, pipe, socket or folder.
"""

import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, Self
from urllib.parse import unquote_to_bytes, urlsplit

from shoppable.decoder.errors import SIZE_LIMIT, RefusedVideoError
from shoppable.runtime.errors import NotFoundError, PermissionDeniedError, UnavailableError

MAX_URI_CHARACTERS = 8192
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class OpenFile:
    """A file that is open for reading, and its size. As a context manager it closes the file."""

    file: BinaryIO
    size_bytes: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def in_memory(data: bytes) -> OpenFile:
    """Return bytes as a file."""
    return OpenFile(file=io.BytesIO(data), size_bytes=len(data))


def path_of_uri(uri: str) -> str:
    """Return the absolute path that a file URI names.

    Raises:
        ValueError: It is none; the text says what it must be.
    """
    if len(uri) > MAX_URI_CHARACTERS:
        raise ValueError(f"must have at most {MAX_URI_CHARACTERS} characters")
    # urlsplit drops some of these without a word, and what is checked must be what is opened.
    if any(character <= " " or character == "\x7f" for character in uri):
        raise ValueError("must be a URI: encode spaces and control characters as %20 and the like")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError("must be a URI such as file:///absolute/path") from error
    if parts.scheme != "file":
        raise ValueError("must be a file:// URI: this decoder reads no other scheme")
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ValueError("must name an absolute path of the decoder's host, as file:///absolute/path")
    if "?" in uri or "#" in uri:
        raise ValueError("must have no query and no fragment: encode ? and # as %3F and %23")
    path = unquote_to_bytes(parts.path)
    if b"\0" in path:
        raise ValueError("must not have a zero byte")
    return os.fsdecode(path)


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
            raise RefusedVideoError(
                field,
                f"must name a file of at most {self._max_bytes} bytes, and its has {size}",
                reason=SIZE_LIMIT,
                limit=self._max_bytes,
                value=size,
            )


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


class Upload:
    """Collects the chunks of a file: in memory while it is small, then in a temporary file without a name."""

    def __init__(
        self, *, field: str, total_bytes: int | None, max_bytes: int, spool_bytes: int, scratch_dir: Path | None
    ) -> None:
        self._field = field
        self._total = total_bytes
        self._max = max_bytes
        self._size = 0
        folder = None if scratch_dir is None else str(scratch_dir)
        self._file = tempfile.SpooledTemporaryFile(max_size=spool_bytes, dir=folder)  # noqa: SIM115  # see close()

    def append(self, chunk: bytes) -> None:
        """Add the next bytes. Blocking.

        Raises:
            RefusedVideoError: The file is too large, or larger than was said.
            UnavailableError: The disk is full or broken.
        """
        self._size += len(chunk)
        if self._total is not None and self._size > self._total:
            self._refuse_size()
        if self._size > self._max:
            raise RefusedVideoError(
                "chunk",
                f"the file must have at most {self._max} bytes",
                reason=SIZE_LIMIT,
                limit=self._max,
                value=self._size,
            )
        try:
            self._file.write(chunk)
        except OSError as error:
            raise UnavailableError("the upload cannot be stored now", reason="SCRATCH_FAILED") from error

    def finish(self) -> OpenFile:
        """Return the whole file.

        Raises:
            RefusedVideoError: It is smaller than was said.
        """
        if self._total is not None and self._size != self._total:
            self._refuse_size()
        self._file.seek(0)
        return OpenFile(file=self._file, size_bytes=self._size)  # type: ignore[arg-type]  # reads and seeks like one

    def close(self) -> None:
        """Drop the file; safe to repeat."""
        self._file.close()

    def _refuse_size(self) -> NoReturn:
        raise RefusedVideoError(
            f"{self._field}.upload.total_bytes",
            f"must be the size of the file: {self._total} were announced, and {self._size} came",
            reason="SIZE_MISMATCH",
        )
