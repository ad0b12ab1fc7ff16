"""Requests that go out whole or not at all.

Where a request cannot be serialised, as without memory, grpc.aio logs it and sends an empty message in its place: the
server would answer what nobody asked. So requests are serialised before gRPC has them.
"""

import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

import grpc

from shoppable.client.errors import ShoppableError

_Serializer = Callable[[Any], bytes]


def unwritable() -> ShoppableError:
    """Return the error of a call with a request that cannot be serialised."""
    return ShoppableError(grpc.StatusCode.UNAVAILABLE, "the request could not be written", "UNWRITABLE_REQUEST")


def serializing(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """Let calls of a channel raise `unwritable`, or be cancelled if they stream their requests."""
    for kind, whole in (
        ("unary_unary", _written),
        ("unary_stream", _written),
        ("stream_unary", _all_written),
        ("stream_stream", _all_written),
    ):
        setattr(channel, kind, functools.partial(_open, getattr(channel, kind), whole))
    return channel


def _open(
    make: Callable[..., Any],
    whole: Callable[[_Serializer, Any], Any],
    method: str,
    request_serializer: _Serializer | None = None,
    *rest: Any,
    **named: Any,
) -> Any:
    serializer = request_serializer or bytes

    def unless_bytes(request: Any) -> bytes:
        return request if isinstance(request, bytes) else serializer(request)

    multicallable = make(method, unless_bytes, *rest, **named)

    def call(request: Any = None, *arguments: Any, **options: Any) -> Any:
        if request is None:  # a stream whose requests are written one by one
            return multicallable(None, *arguments, **options)
        return multicallable(whole(serializer, request), *arguments, **options)

    return call


def _written(serializer: _Serializer, request: Any) -> bytes:
    try:
        return serializer(request)
    except Exception as error:
        raise unwritable() from error


async def _all_written(serializer: _Serializer, requests: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[bytes]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield _written(serializer, request)
    else:
        for request in requests:
            yield _written(serializer, request)
