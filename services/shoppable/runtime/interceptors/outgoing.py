"""Sends the request id and the caller of the call in work along with every call that is made for it, and ends them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from shoppable.runtime.call import REQUEST_ID_KEY, current_caller, current_request_id
from shoppable.runtime.callers import CALLER_KEY


def _with_origin(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    for key, value in ((REQUEST_ID_KEY, current_request_id()), (CALLER_KEY, current_caller())):
        if value is not None and metadata.get(key) is None:
            metadata.add(key, value)
    return details._replace(metadata=metadata)  # type: ignore[attr-defined,no-any-return]  # a named tuple, undeclared


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_origin(client_call_details), request)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: Any,
    ) -> Any:
        return await continuation(_with_origin(client_call_details), request_iterator)


class _CancelledWithItsTask(grpc.aio.UnaryUnaryClientInterceptor):
    """Cancels the call on the wire when the task that waits for it is cancelled.

    The tracing interceptor waits for the call's code by itself, and its being cancelled there does not reach the call:
    the server would work on for a caller that is gone. Innermost, so that it sees gRPC's own call.
    """

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        call = await continuation(client_call_details, request)
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda waiting: waiting.cancelled() and call.cancel())
        return call


def outgoing_cancellation() -> grpc.aio.ClientInterceptor:
    """Return the interceptor that must be innermost."""
    return _CancelledWithItsTask()


def outgoing_origin() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors for the kinds of calls that the suite has."""
    return [_UnaryUnary(), _StreamStream()]
