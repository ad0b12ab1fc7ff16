"""Videos on web servers: fetched by ranges over https, or as one body from servers that know no ranges.

FFmpeg never touches the network. Each host, port and address is checked, also those of redirects; no proxy, cookie or
credential is used. A file that changes while it is read ends the call.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urldefrag, urljoin

import httpcore

from shoppable.decoder.adapters.web_answers import FAILURES, header, range_of, read_body, require_content
from shoppable.decoder.domain import WebAddress
from shoppable.decoder.errors import RETRY_AFTER_S, IdleError, RefusedVideoError, changed, oversize, unavailable
from shoppable.decoder.remote import PIECE_BYTES, RemoteLimits
from shoppable.decoder.uris import read_uri
from shoppable.runtime.errors import PermissionDeniedError, UnavailableError

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_CONNECTIONS = 4  # of a video
_BACKOFF_S = 0.2
T = TypeVar("T")


@dataclass(frozen=True)
class WebRules:
    """What may be asked for."""

    schemes: frozenset[str]
    hosts: Sequence[str]  # names; *.example.com for all below one, * for all
    ports: Sequence[int]

    def check(self, address: WebAddress) -> None:
        """Refuse what the operator did not allow.

        Raises:
            PermissionDeniedError: Not this host, or not this port.
        """
        if not any(_fits(address.host, pattern.lower()) for pattern in self.hosts):
            raise PermissionDeniedError(
                "the URI leads to a host that this decoder's operator did not allow", reason="HOST_NOT_ALLOWED"
            )
        if address.port not in self.ports:
            raise PermissionDeniedError(
                f"the URI leads to port {address.port}, which this decoder's operator did not allow",
                reason="PORT_NOT_ALLOWED",
            )


def _fits(host: str, pattern: str) -> bool:
    return pattern in {"*", host} or (pattern.startswith("*.") and host.endswith(pattern[1:]))


@dataclass(frozen=True)
class Web:
    """The web as this decoder sees it."""

    rules: WebRules
    limits: RemoteLimits
    network: httpcore.AsyncNetworkBackend
    tls: ssl.SSLContext

    async def open(self, address: WebAddress, *, uri: str, field: str) -> "WebFile | WebBody":
        """Ask for the beginning of a file; `field` is the path of the URI in the request.

        Raises:
            ServiceError: It is not allowed, not there, too large, or cannot be had.
        """
        file = WebFile(self, address, uri=uri, field=field)
        try:
            return await file.begin()
        except BaseException:
            await file.aclose()
            raise


class WebFile:
    """A file on a server that knows ranges. A Remote once `begin` has returned it."""

    def __init__(self, web: Web, address: WebAddress, *, uri: str, field: str) -> None:
        self._web = web
        self._address = address
        self._uri = uri
        self._field = field
        self._first = b""
        self._etag = ""
        self._validator = ""  # what tells this state of the file from others
        self.size = 0
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=web.tls, network_backend=web.network, max_connections=_CONNECTIONS
        )

    async def begin(self) -> "WebFile | WebBody":
        """Fetch the first piece, or as much as is needed to know that there are no ranges."""
        return await self._patiently(self._begin_once)

    async def read(self, start: int, end: int) -> bytes:
        """See Remote."""
        if end <= len(self._first):
            return self._first[start:end]
        return await self._patiently(lambda: self._read_once(start, end))

    async def aclose(self) -> None:
        """See Remote."""
        await self._pool.aclose()

    async def _begin_once(self) -> "WebFile | WebBody":
        async with contextlib.AsyncExitStack() as stack:
            response = await stack.enter_async_context(self._asked(0, PIECE_BYTES))
            if response.status == 200:
                stated = header(response, b"content-length")
                size = int(stated) if stated.isdecimal() else None
                self._check_size(size or 0)
                return WebBody(self._web.limits, self._pool, response, size, stack.pop_all())
            start, end, self.size = range_of(response)
            self._check_size(self.size)
            if start != 0 or end != min(PIECE_BYTES, self.size):
                raise unavailable("the video's server sends other bytes than it was asked for")
            self._etag = header(response, b"etag")
            strong = self._etag if self._etag.startswith('"') else ""
            self._validator = strong or header(response, b"last-modified")
            self._first = await read_body(response, end - start)
            return self

    async def _read_once(self, start: int, end: int) -> bytes:
        async with self._asked(start, end, if_range=self._validator) as response:
            if response.status == 200:  # the whole file instead: it is another one
                raise changed()
            first, last, size = range_of(response)
            etag = header(response, b"etag")
            if size != self.size or (self._etag and etag and etag != self._etag):
                raise changed()
            if (first, last) != (start, end):
                raise unavailable("the video's server sends other bytes than it was asked for")
            return await read_body(response, end - start)

    def _check_size(self, size: int) -> None:
        if size > self._web.limits.max_bytes:
            raise oversize(self._field, limit=self._web.limits.max_bytes, value=size)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try, and try again after what may pass: reading changes nothing."""
        limits, tried = self._web.limits, 0
        ends = asyncio.get_running_loop().time() + limits.request_s
        try:
            async with asyncio.timeout_at(ends):
                while True:
                    try:
                        return await attempt()
                    except UnavailableError as error:
                        tried += 1
                        wait_s = _BACKOFF_S * 2**tried * random.uniform(0.5, 1)  # noqa: S311  # no secret
                        if error.retry_after_s > RETRY_AFTER_S:  # the server asks for it
                            wait_s = error.retry_after_s
                        if tried >= limits.attempts or asyncio.get_running_loop().time() + wait_s > ends:
                            raise
                        await asyncio.sleep(wait_s)
        except TimeoutError as error:
            raise unavailable("the video's server is too slow") from error

    @contextlib.asynccontextmanager
    async def _asked(self, start: int, end: int, *, if_range: str = "") -> AsyncGenerator[httpcore.Response, None]:
        """Send a request, follow its redirects, and yield an answer of status 200 or 206."""
        for _ in range(_MAX_REDIRECTS + 1):
            self._web.rules.check(self._address)
            response = await self._send(start, end, if_range)
            try:
                if response.status not in _REDIRECTS:
                    require_content(response, uri=self._uri, field=self._field)
                    yield response
                    return
                self._address = self._next(header(response, b"location"))
            finally:
                await response.aclose()
        raise RefusedVideoError(
            self._field, f"must not be redirected more than {_MAX_REDIRECTS} times", reason="TOO_MANY_REDIRECTS"
        )

    async def _send(self, start: int, end: int, if_range: str) -> httpcore.Response:
        address, limits = self._address, self._web.limits
        headers = {
            "Host": address.authority,
            "User-Agent": "shoppable-decoder",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Range": f"bytes={start}-{end - 1}",
        }
        if if_range:
            headers["If-Range"] = if_range
        waits = {"connect": limits.header_s, "read": limits.stall_s, "write": limits.stall_s, "pool": limits.request_s}
        request = httpcore.Request("GET", address.url, headers=list(headers.items()), extensions={"timeout": waits})
        try:
            async with asyncio.timeout(limits.header_s):
                return await self._pool.handle_async_request(request)
        except (TimeoutError, *FAILURES) as error:
            raise unavailable("the video's server cannot be reached, or does not answer") from error

    def _next(self, location: str) -> WebAddress:
        """Return where a redirect leads, if that is allowed."""
        try:
            found = read_uri(urldefrag(urljoin(self._address.url, location)).url, self._web.rules.schemes)
        except ValueError as error:
            raise _redirect_denied() from error
        if not isinstance(found, WebAddress) or (self._address.scheme == "https" and found.scheme != "https"):
            raise _redirect_denied()
        return found


def _redirect_denied() -> PermissionDeniedError:
    return PermissionDeniedError(
        "the URI is redirected to what this decoder does not ask for", reason="REDIRECT_DENIED"
    )


class WebBody:
    """A file on a server that knows no ranges: its bytes, once, in order."""

    def __init__(
        self,
        limits: RemoteLimits,
        pool: httpcore.AsyncConnectionPool,
        response: httpcore.Response,
        size: int | None,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._limits = limits
        self._pool = pool
        self._response = response
        self._stack = stack
        self.size = size

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes, and let go of the server at the end.

        Raises:
            UnavailableError: The server broke off.
            IdleError: It was waited for too long in all.
        """
        waited_s = 0.0
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.aclose)
            parts = self._response.aiter_stream()
            while True:
                since = time.monotonic()
                try:
                    chunk = await anext(parts, None)
                except FAILURES as error:
                    raise unavailable("the video's server broke off") from error
                waited_s += time.monotonic() - since
                if waited_s > self._limits.total_s:
                    raise IdleError(
                        f"the video's server was waited for {self._limits.total_s:g} s in all",
                        reason="REMOTE_TOO_SLOW",
                    )
                if chunk is None:
                    return
                yield chunk

    async def aclose(self) -> None:
        """Let go of the server; safe to repeat."""
        await self._stack.aclose()
        await self._pool.aclose()
