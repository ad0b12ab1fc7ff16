"""What the answers of web servers mean, in this decoder's errors."""

import re
from typing import NoReturn

import httpcore

from shoppable.decoder.errors import RETRY_AFTER_S, RefusedVideoError, unavailable
from shoppable.runtime.errors import NotFoundError, PermissionDeniedError

# What httpcore raises when a server does not play its part.
FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_MAX_RETRY_S = 60.0


def header(response: httpcore.Response, name: bytes) -> str:
    """Return a header of an answer; empty if it has none. The name is in lower case."""
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def require_content(response: httpcore.Response, *, uri: str, field: str) -> None:
    """Raise what an answer means, unless it is 200 or 206 with the file's own bytes.

    Raises:
        NotFoundError, PermissionDeniedError, RefusedVideoError: It is not to be had.
        UnavailableError: It is not to be had now.
    """
    if response.status not in {200, 206}:
        _raise(response, uri=uri, field=field)
    if header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise RefusedVideoError(field, "must be served as it is, not compressed", reason="CONTENT_ENCODED")


def _raise(response: httpcore.Response, *, uri: str, field: str) -> NoReturn:
    status = response.status
    if status in {404, 410}:
        raise NotFoundError("url", uri, "the server has no such file")
    if status in {401, 403}:
        raise PermissionDeniedError("the server does not hand out this file", reason="REMOTE_DENIED")
    if status in {408, 416, 425, 429} or status >= 500:
        stated = header(response, b"retry-after")
        retry_after_s = min(float(stated), _MAX_RETRY_S) if stated.isdecimal() else RETRY_AFTER_S
        raise unavailable(f"the video's server answers {status}", retry_after_s=retry_after_s)
    raise RefusedVideoError(field, f"must be handed out, and its server answers {status}", reason="REMOTE_REFUSED")


def range_of(response: httpcore.Response) -> tuple[int, int, int]:
    """Return which bytes an answer of status 206 holds: the first, the one after the last, and the file's size.

    Raises:
        UnavailableError: It does not say.
    """
    found = _CONTENT_RANGE.fullmatch(header(response, b"content-range"))
    if found is None:
        raise unavailable("the video's server does not say which bytes it sends")
    first, last, size = map(int, found.groups())
    return first, last + 1, size


async def read_body(response: httpcore.Response, size: int) -> bytes:
    """Return an answer's body, which must be of this size; no more than that is read.

    Raises:
        UnavailableError: It is shorter or longer, or breaks off.
    """
    body = bytearray()
    try:
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > size:
                break
    except FAILURES as error:
        raise unavailable("the video's server broke off") from error
    if len(body) != size:
        raise unavailable("the video's server sends other bytes than it says")
    return bytes(body)
