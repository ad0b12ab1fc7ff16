"""Sends the request id of the call in work along with every call that is made for it, and our own key."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from shoppable.runtime.call import REQUEST_ID_KEY, current_request_id


class _Headers:
    def __init__(self, api_key: Callable[[], str] | None) -> None:
        self._api_key = api_key

    def added_to(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        request_id = current_request_id()
        if request_id is not None and metadata.get(REQUEST_ID_KEY) is None:
            metadata.add(REQUEST_ID_KEY, request_id)
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


def outgoing_headers(api_key: Callable[[], str] | None) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors for the kinds of calls that the suite has."""
    return [_UnaryUnary(api_key), _StreamStream(api_key)]
