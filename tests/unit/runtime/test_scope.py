"""Requests that cannot be decoded: whose fault it is."""

from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.message import DecodeError

from shoppable.runtime.errors import InvalidRequestError
from shoppable.runtime.interceptors.scope import ScopeInterceptor

MESSAGE = b"a message"


class Context:
    """Of a call that brings one message."""

    async def read(self):
        return MESSAGE

    def time_remaining(self):
        return None

    def invocation_metadata(self):
        return ()


async def asked(failures: list[Exception]) -> bytes:
    """Ask a server whose decoder fails so often; return what the servicer was given."""

    def decode(raw: bytes) -> bytes:
        if failures:
            raise failures.pop()
        return raw

    async def behaviour(request, context):
        return request

    async def handler(details):
        return grpc.unary_unary_rpc_method_handler(behaviour, request_deserializer=decode)

    details = SimpleNamespace(method="/any.Service/Any", invocation_metadata=())
    scoped = await ScopeInterceptor([]).intercept_service(handler, details)
    return await scoped.stream_unary(None, Context())


async def test_a_message_that_there_was_no_memory_for_is_read_when_there_is():
    assert await asked([DecodeError("Error parsing message")]) == MESSAGE


async def test_a_message_that_cannot_be_read_with_memory_is_malformed():
    with pytest.raises(InvalidRequestError, match="not a valid message"):
        await asked([DecodeError("Error parsing message")] * 10)
