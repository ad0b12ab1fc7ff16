"""Sends the request id of the call in work along with every call that is made for it."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from shoppable.runtime.call import REQUEST_ID_KEY, current_request_id


def _with_request_id(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    request_id = current_request_id()
    if request_id is None:
        return details
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if metadata.get(REQUEST_ID_KEY) is None:
        metadata.add(REQUEST_ID_KEY, request_id)
    return details._replace(metadata=metadata)  # type: ignore[attr-defined,no-any-return]  # a named tuple, undeclared


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_request_id(client_call_details), request)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: Any,
    ) -> Any:
        return await continuation(_with_request_id(client_call_details), request_iterator)


def outgoing_request_id() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors for the kinds of calls that the suite has."""
    return [_UnaryUnary(), _StreamStream()]
