"""Where the keys that verify tokens come from: a file, or an address that the issuer publishes them at."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import structlog

from shoppable.runtime.auth import tokens
from shoppable.runtime.auth.tokens import VerificationKey
from shoppable.runtime.errors import UnavailableError
from shoppable.runtime.watched_files import ConfigurationError, WatchedFiles

_log = structlog.get_logger(__name__)
_MAX_BYTES = 2**20
_TIMEOUT_S = 5.0
_FRESH_S = 300.0
# Tokens with keys that nobody has must not make us ask the issuer for each of them.
_AT_MOST_EVERY_S = 10.0


class KeySource(Protocol):
    """Gives the keys."""

    async def keys(self, *, newer: bool = False) -> Sequence[VerificationKey]:
        """Return the keys; `newer` asks for ones that came after those that were given last, if there are any."""


class KeyFile:
    """A PEM public key or a JWK set in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFiles([path], lambda: tokens.read_key_file(path))

    async def keys(self, *, newer: bool = False) -> Sequence[VerificationKey]:
        """See KeySource; the file is looked at in any case."""
        return self._file.value()


class KeyAddress:
    """A JWK set at an https address."""

    def __init__(self, url: str, *, fetch: Callable[[str], bytes] | None = None) -> None:
        if not url.startswith("https://"):
            raise ConfigurationError("auth_jwt_keys_url must begin with https://")
        self._url = url
        self._fetch = fetch or _fetch
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_at = self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def keys(self, *, newer: bool = False) -> Sequence[VerificationKey]:
        """See KeySource. While the issuer is away, the keys that we have go on being used.

        Raises:
            UnavailableError: There are none yet.
        """
        async with self._lock:
            now = time.monotonic()
            if (newer or now - self._fetched_at > _FRESH_S) and now - self._asked_at > _AT_MOST_EVERY_S:
                self._asked_at = now
                try:
                    content = await asyncio.to_thread(self._fetch, self._url)
                    self._keys, self._fetched_at = tokens.parse_key_set(content, self._url), now
                except (OSError, ConfigurationError) as error:
                    _log.error("the issuer's keys cannot be fetched", url=self._url, error=str(error))
        if not self._keys:
            raise UnavailableError(
                "tokens cannot be verified now: the issuer's keys cannot be fetched",
                reason="ISSUER_UNAVAILABLE",
                retry_after_s=_AT_MOST_EVERY_S,
            )
        return self._keys


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The keys come from where the operator said, not from where that place points to."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> NoReturn:
        raise urllib.error.HTTPError(req.full_url, code, "redirects are not followed", headers, fp)


def _fetch(url: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(url, timeout=_TIMEOUT_S) as answer:
        content: bytes = answer.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(f"{url} answers with more than {_MAX_BYTES} bytes")
    return content
