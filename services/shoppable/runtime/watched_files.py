"""Files that may be replaced while a server runs: certificates, keys, tables of callers.

They are looked at when they are needed, and read again when they have changed. A new version that cannot be used is
logged, and the old one stays in force: an operator's slip must not lock everybody out.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

ValueT = TypeVar("ValueT")
_log = structlog.get_logger(__name__)
# Between two looks at the files: a stat for each call would be cheap, but not on every network file system.
_LOOK_EVERY_S = 1.0
_Signature = tuple[tuple[int, int, int], ...]


class ConfigurationError(RuntimeError):
    """What the operator has set cannot be used; the text names the setting or the file and says what it must be."""


class WatchedFiles(Generic[ValueT]):
    """A value made of files. It may be asked from any thread."""

    def __init__(
        self, paths: Sequence[Path], read: Callable[[], ValueT], *, look_every_s: float = _LOOK_EVERY_S
    ) -> None:
        """Read the files for the first time.

        Args:
            paths: The files; links are followed, as Kubernetes' volumes of secrets want.
            read: Makes the value of them; raises OSError or ConfigurationError, whose texts must hold no secrets.
            look_every_s: How stale the value may be, in seconds.

        Raises:
            ConfigurationError: A file cannot be read or used.
        """
        self._paths = tuple(paths)
        self._read = read
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        try:
            self._seen = self._signature()
            self._value = read()
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
        self._looked_at = time.monotonic()
        self.version = 0  # counts the changes that were taken over

    def value(self) -> ValueT:
        """Return what the files say now."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= self._look_every_s:
                self._looked_at = now
                self._look()
            return self._value

    def _look(self) -> None:
        try:
            signature = self._signature()
            if signature == self._seen:
                return
            value = self._read()
            # A pair of files is replaced one after the other: half of it is looked at again.
            if self._signature() != signature:
                return
        except (OSError, ConfigurationError) as error:
            _log.error("changed files cannot be used; what they said before holds", error=str(error))
            return
        self._seen, self._value = signature, value
        self.version += 1
        _log.info("files were read again", paths=[str(path) for path in self._paths])

    def _signature(self) -> _Signature:
        stats = [path.stat() for path in self._paths]
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)
