"""One interceptor that opens a list of scopes (async context managers) around every call of our own services.

It also takes requests from the wire and decodes them itself, inside the scopes, and encodes the answers there. What is
refused is then never read, however large: a message is taken for a caller that is known and has a place. And gRPC would
end with UNKNOWN what cannot be decoded or encoded.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shoppable.runtime.call import Call, deadline_of, request_id_of, serving
from shoppable.runtime.errors import DeadlineExceededError, InvalidRequestError, Violation

_ARRIVE_S = 30  # that a request of one message may take, since it holds a place
_DECODING_TRIES = 3
_DECODING_MARGIN = 2**20  # bytes
_DECODING_GROWTH = 32  # bytes of memory for one on the wire: two hold an empty message of a list
Scope = Callable[[Call], AbstractAsyncContextManager[None]]


class ScopeInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each call in `scopes`, outermost first. Standard services (grpc.*) are left alone but for those named."""

    def __init__(self, scopes: Sequence[Scope], *, standard: Collection[str] = ()) -> None:
        self._scopes = tuple(scopes)
        self._standard = frozenset(standard)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or (service.startswith("grpc.") and service not in self._standard):
            return handler
        return self._wrap(handler, service, method, request_id_of(handler_call_details.invocation_metadata))

    def _wrap(self, handler: Any, service: str, method: str, request_id: str) -> Any:
        deserialize = _decoder(handler.request_deserializer)

        def serialize(response: Any) -> bytes:
            # gRPC asks too: for what was encoded here, and for what a handler wrote to the context itself.
            return response if isinstance(response, bytes) else handler.response_serializer(response)

        @contextlib.asynccontextmanager
        async def scoped(raw: Any, context: Any) -> AsyncIterator[Any]:
            """Open the scopes and yield the decoded request, or an iterator of them."""
            call = Call(
                service=service, method=method, request_id=request_id, context=context, deadline=deadline_of(context)
            )
            async with AsyncExitStack() as stack:
                stack.enter_context(serving(call))
                for scope in self._scopes:
                    await stack.enter_async_context(scope(call))

                def decode(message: bytes) -> Any:
                    request = deserialize(message)
                    for check in call.request_checks:
                        check(request)
                    return request

                yield _decoded(raw, decode) if handler.request_streaming else decode(await _only(context))

        async def answer_once(raw: Any, context: Any) -> Any:
            async with scoped(raw, context) as request:
                behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
                return serialize(await behaviour(request, context))

        async def answer_many(raw: Any, context: Any) -> AsyncIterator[Any]:
            async with scoped(raw, context) as request:
                behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
                responses = behaviour(request, context)
                if inspect.isawaitable(responses):  # a handler that writes to the context itself
                    await responses
                    return
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield serialize(response)

        # As if all methods took streams: gRPC reads the message of one that does not before it asks anybody.
        make: Any = grpc.stream_unary_rpc_method_handler
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler
        behaviour = answer_many if handler.response_streaming else answer_once
        return make(behaviour, request_deserializer=None, response_serializer=serialize)


def _decoder(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def decode(raw: bytes) -> Any:
        if deserializer is None:
            return raw
        for _ in range(_DECODING_TRIES):
            try:
                return deserializer(raw)
            except DecodeError as error:
                failure = error
                # It may be for want of memory: the decoder does not say. Then this is a MemoryError, or what was
                # wanted has come free meanwhile.
                bytes(_DECODING_MARGIN + _DECODING_GROWTH * len(raw))
        violation = Violation("request", "is not a valid message of this method")
        raise InvalidRequestError([violation], reason="MALFORMED_MESSAGE") from failure

    return decode


async def _decoded(raw: AsyncIterator[bytes], decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for message in raw:
        yield decode(message)


async def _only(context: Any) -> bytes:
    """Return the message of a method that takes one."""
    try:
        async with asyncio.timeout(_ARRIVE_S):
            message = await context.read()
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"the request did not arrive within {_ARRIVE_S} s", reason="REQUEST_TOO_SLOW"
        ) from error
    if message is grpc.aio.EOF:
        raise InvalidRequestError([Violation("request", "is missing: the call ended without it")], reason="NO_MESSAGE")
    return bytes(message)
