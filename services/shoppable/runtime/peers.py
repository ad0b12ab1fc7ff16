"""Calls to other servers with our own certificate and key, which may be replaced while we run."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc

from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.tls import check_pair, check_roots
from shoppable.runtime.watched_files import ConfigurationError, WatchedFiles

# A channel that was replaced lives on for the calls that began on it.
_OLD_CHANNEL_LIVES_S = 3600.0


class PeerFiles:
    """The TLS files that outgoing calls use: PEM roots, and our own chain and key for mutual TLS; None where unset."""

    def __init__(self, settings: ServerSettings) -> None:
        """Check the files.

        Raises:
            ConfigurationError: They cannot be used.
        """
        self.roots = settings.peer_ca_file
        self.certificate = settings.peer_certificate_file
        self.key = settings.peer_key_file
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("mutual TLS needs both peer_certificate_file and peer_key_file")
        self.paths = [path for path in (self.roots, self.certificate, self.key) if path]
        self._watched = WatchedFiles(self.paths, self._check)

    def version(self) -> int:
        """Return a number that grows when the files have changed."""
        self._watched.value()
        return self._watched.version

    def credentials(self) -> grpc.ChannelCredentials:
        """Return credentials of the files as they are now; without roots, the system's are trusted."""
        return grpc.ssl_channel_credentials(
            *(path.read_bytes() if path else None for path in (self.roots, self.key, self.certificate))
        )

    def _check(self) -> None:
        if self.roots:
            check_roots(self.roots)
        if self.certificate and self.key:
            check_pair(self.certificate, self.key)


def peer_files(settings: ServerSettings) -> PeerFiles | None:
    """Return the TLS files for outgoing calls; None for no TLS.

    Raises:
        ConfigurationError: They cannot be used.
    """
    return PeerFiles(settings) if settings.speaks_tls_to_peers else None


def peer_api_key(settings: ServerSettings) -> Callable[[], str] | None:
    """Return what tells our own API key as its file has it now; None if there is none.

    Raises:
        ConfigurationError: The file cannot be read, or holds no key.
    """
    path = settings.peer_api_key_file
    if path is None:
        return None
    return WatchedFiles([path], lambda: _read_key(path)).value


def _read_key(path: Path) -> str:
    key = path.read_text(errors="replace").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"{path} must hold an API key: printable ASCII, and nothing else")
    return key


class RenewedChannel(grpc.aio.Channel):
    """A channel that is opened anew when its TLS files change; stubs that were made of it go on working."""

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel], files: PeerFiles) -> None:
        self._open = open_channel
        self._files = files
        self._version = files.version()
        self._channel = open_channel()
        self._closing: set[asyncio.Task[None]] = set()

    def _current(self) -> grpc.aio.Channel:
        version = self._files.version()
        if version != self._version:
            self._version, old = version, self._channel
            self._channel = self._open()
            task = asyncio.create_task(old.close(_OLD_CHANNEL_LIVES_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return self._channel

    def _multicallable(self, kind: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        made: dict[grpc.aio.Channel, Any] = {}

        def call(*args: Any, **kwargs: Any) -> Any:
            channel = self._current()
            if channel not in made:
                made.clear()
                made[channel] = getattr(channel, kind)(*arguments, **options)
            return made[channel](*args, **kwargs)

        return call

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._multicallable("unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._multicallable("unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._multicallable("stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._multicallable("stream_stream", arguments, options)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See grpc.aio.Channel."""
        return self._current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel."""
        await self._current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel."""
        await self._current().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Close it, and what is left of those before it."""
        for task in self._closing:
            task.cancel()
        await self._channel.close(grace)

    async def __aenter__(self) -> "RenewedChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
