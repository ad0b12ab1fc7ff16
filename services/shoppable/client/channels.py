"""Channels that are set up right: retries, balancing, message sizes, reconnecting fast, and who is calling."""

import importlib.resources
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from shoppable.client.serialization import serializing

MAX_MESSAGE_BYTES = 64 * 2**20
# A copy of what lies beside the protos, made by `make gen`: deadlines at most, and which calls are retried.
_SERVICE_CONFIG = "service_config.json"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for TLS: the roots to trust (default the system's), and a client's own pair for mutual TLS."""

    roots: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: One of them cannot be read.
        """
        return grpc.ssl_channel_credentials(
            *(path.read_bytes() if path else None for path in (self.roots, self.key, self.certificate))
        )


def open_channel(
    target: str,
    *,
    tls: TlsFiles | None = None,
    api_key: str | None = None,
    token: str | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Open a channel to `host:port` or any other gRPC name. Close it, or use it as an async context manager.

    Args:
        target: Where to.
        tls: What to encrypt with; None for plain text, which is for loopback and for networks that encrypt themselves.
        api_key: Sent with each call as `x-api-key`.
        token: A JWT, sent with each call as `authorization: Bearer`.
        interceptors: More of them, called after those of the key. They see requests as bytes.
    """
    identity = caller_metadata(api_key, token)
    own: list[grpc.aio.ClientInterceptor] = [_UnaryIdentity(identity), _StreamIdentity(identity)] if identity else []
    every = [*own, *interceptors]
    if tls is None:
        return serializing(grpc.aio.insecure_channel(target, options=channel_options(), interceptors=every))
    return serializing(
        grpc.aio.secure_channel(target, tls.credentials(), options=channel_options(), interceptors=every)
    )


def channel_options() -> list[tuple[str, str | int]]:
    """Return the options of every channel of ours."""
    config = importlib.resources.files("shoppable.client").joinpath(_SERVICE_CONFIG).read_text(encoding="utf-8")
    return [
        ("grpc.service_config", config),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # gRPC's 256 KiB would silently switch retries off for any call that carries a picture.
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        # A picture in one piece, not in 40 of 16 KiB: takes a third off what it costs to receive one.
        ("grpc.http2.max_frame_size", 2**20),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Finds a peer that is gone without a word; servers accept a ping a minute while calls run.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]


def caller_metadata(api_key: str | None, token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata that says who is calling."""
    pairs = (("x-api-key", api_key), ("authorization", f"Bearer {token}" if token else None))
    return tuple((key, value) for key, value in pairs if value)


class _Identity:
    def __init__(self, identity: tuple[tuple[str, str], ...]) -> None:
        self._identity = identity

    def _with_identity(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._identity)
        return details._replace(metadata=metadata)  # type: ignore[attr-defined,no-any-return]  # a named tuple, undeclared


class _UnaryIdentity(_Identity, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._with_identity(client_call_details), request)


class _StreamIdentity(_Identity, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self._with_identity(client_call_details), request_iterator)
