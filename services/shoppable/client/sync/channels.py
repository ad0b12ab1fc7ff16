"""Blocking channels, set up as the asynchronous ones."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import grpc

from shoppable.client.channels import TlsFiles, caller_metadata, channel_options


def open_channel(
    target: str, *, tls: TlsFiles | None = None, api_key: str | None = None, token: str | None = None
) -> grpc.Channel:
    """Open a channel to `host:port` or any other gRPC name. Close it, or use it as a context manager.

    Args:
        target: Where to.
        tls: What to encrypt with; None for plain text, which is for loopback and for networks that encrypt themselves.
        api_key: Sent with each call as `x-api-key`.
        token: A JWT, sent with each call as `authorization: Bearer`.
    """
    options = channel_options()
    if tls is None:
        channel = grpc.insecure_channel(target, options=options)
    else:
        channel = grpc.secure_channel(target, tls.credentials(), options=options)
    identity = caller_metadata(api_key, token)
    return grpc.intercept_channel(channel, _Identity(identity)) if identity else channel


class _Details(NamedTuple):
    """What grpc.ClientCallDetails declares and has no constructor for."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Identity(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    def __init__(self, identity: Iterable[tuple[str, str]]) -> None:
        self._identity = tuple(identity)

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_identity(client_call_details), request)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._with_identity(client_call_details), request_iterator)

    def _with_identity(self, details: Any) -> Any:
        return _Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *self._identity),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
