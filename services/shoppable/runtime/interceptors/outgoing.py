"""Sends request id and account of the call in work, and our own key, along with every call made for it; ends them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from shoppable.runtime.accounts import ACCOUNT_KEY
from shoppable.runtime.call import REQUEST_ID_KEY, current_account, current_request_id


class _Headers:
    def __init__(self, api_key: Callable[[], str] | None) -> None:
        self._api_key = api_key

    def added_to(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        for key, value in ((REQUEST_ID_KEY, current_request_id()), (ACCOUNT_KEY, current_account())):
            if value is not None and metadata.get(key) is None:
                metadata.add(key, value)
        if self._api_key is not None:
            metadata.add("authorization", f"Bearer {self._api_key()}")
        replaced: grpc.aio.ClientCallDetails = details._replace(metadata=metadata)  # type: ignore[attr-defined]
        return replaced


class _UnaryUnary(_Headers, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self.added_to(client_call_details), request)


class _StreamStream(_Headers, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: Any,
    ) -> Any:
        return await continuation(self.added_to(client_call_details), request_iterator)


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


def outgoing_headers(api_key: Callable[[], str] | None) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors for the kinds of calls that the suite has."""
    return [_UnaryUnary(api_key), _StreamStream(api_key)]
