"""The one bootstrap of all servers: `run(settings, build)` from a service's `__main__`."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_channelz.v1._async import ChannelzServicer  # no public name leads to the asyncio one
from grpc_health.v1 import health, health_pb2_grpc

from shoppable import __version__
from shoppable.runtime import interceptors
from shoppable.runtime.auth.authenticator import Authenticator
from shoppable.runtime.exposure import check_exposure
from shoppable.runtime.health import HealthMonitor, ReadinessCheck, always_ready
from shoppable.runtime.interceptors.admission import AdmissionLimits
from shoppable.runtime.logs import configure_logs
from shoppable.runtime.reflection import add_reflection
from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.telemetry import exporting
from shoppable.runtime.tls import server_credentials
from shoppable.v1 import server_info_pb2, server_info_pb2_grpc

_log = structlog.get_logger(__name__)
# For which a thread that computes may keep Python's lock from the event loop. A call needs the loop several times
# before it is taken or refused, so with the default, fifty times as long, a flood is refused after tenths of a second.
_SWITCH_S = 0.0001
TIME_KEY = "x-server-time"  # seconds since 1970, in the trailing metadata of GetServerInfo


@dataclass(frozen=True)
class Limit:
    """A limit that callers are held to and can read: see ServerInfoService."""

    name: str
    value: int
    unit: str


@dataclass(frozen=True)
class Service:
    """One gRPC service: its descriptor, the generated `add_…_to_server`, the servicer, and when it can work."""

    descriptor: ServiceDescriptor
    register: Callable[[Any, Any], None]
    servicer: object
    ready: ReadinessCheck = always_ready


@dataclass(frozen=True)
class Assembly:
    """All that a server serves."""

    services: Sequence[Service]
    limits: Sequence[Limit] = field(default=())


SettingsT = TypeVar("SettingsT", bound=ServerSettings)
# Opens what the services need (channels, indexes), yields the assembly, and closes it all after the server has stopped.
Build = Callable[[SettingsT], AbstractAsyncContextManager[Assembly]]


class _ServerInfoServicer(server_info_pb2_grpc.ServerInfoServiceServicer):
    def __init__(self, names: Sequence[str], limits: Sequence[Limit]) -> None:
        self._answer = server_info_pb2.GetServerInfoResponse(
            version=__version__,
            services=names,
            limits=[
                server_info_pb2.Limit(name=limit.name, value=limit.value, unit=limit.unit)
                for limit in sorted(limits, key=lambda limit: limit.name)
            ],
        )

    async def GetServerInfo(  # noqa: N802  # gRPC's name
        self, request: server_info_pb2.GetServerInfoRequest, context: Any
    ) -> server_info_pb2.GetServerInfoResponse:
        # Who examines an installation compares the clocks.
        context.set_trailing_metadata(((TIME_KEY, f"{time.time():.3f}"),))
        return self._answer


class Server:
    """A server of an assembly, with health, reflection, channelz and server info beside it."""

    def __init__(self, settings: ServerSettings, assembly: Assembly) -> None:
        """Make the server; it listens after `start`.

        Raises:
            ConfigurationError: Settings of TLS or callers cannot be used, or would leave it open to a network.
        """
        authenticator = Authenticator(settings)
        check_exposure(settings, callers_are_known=authenticator.asks)
        self._credentials = server_credentials(settings)
        self._settings = settings
        self._stopping = asyncio.Event()
        self._monitor = HealthMonitor(
            {service.descriptor.full_name: service.ready for service in assembly.services},
            interval_s=settings.health_interval_s,
            timeout_s=settings.health_timeout_s,
        )
        self._grpc = grpc.aio.server(
            interceptors=interceptors.chain(
                AdmissionLimits(
                    calls=settings.max_concurrent_calls,
                    calls_per_caller=settings.max_calls_per_caller,
                    queued=settings.max_queued_calls,
                    queue_wait_s=settings.queue_wait_s,
                ),
                caller_key=settings.caller_key,
                authenticator=authenticator,
                open_reflection=settings.auth_open_reflection,
            ),
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                *_connection_age(settings),
                # Two servers on one port would share its connections by chance, without a word.
                ("grpc.so_reuseport", 0),
            ],
        )
        names = [service.descriptor.full_name for service in assembly.services]
        for service in assembly.services:
            service.register(service.servicer, self._grpc)
        limits = [
            Limit("max_message_bytes", settings.max_message_bytes, "bytes"),
            Limit("max_concurrent_calls", settings.max_concurrent_calls, "calls"),
            Limit("max_calls_per_caller", settings.max_calls_per_caller or settings.max_concurrent_calls, "calls"),
            Limit("max_queued_calls", settings.max_queued_calls, "calls"),
            *assembly.limits,
        ]
        server_info_pb2_grpc.add_ServerInfoServiceServicer_to_server(_ServerInfoServicer(names, limits), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._monitor.servicer, self._grpc)
        self._probed: grpc.aio.Server | None = None
        if settings.health_port is not None:
            self._probed = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            health_pb2_grpc.add_HealthServicer_to_server(self._monitor.servicer, self._probed)
        self.health_address: str | None = None
        channelz_pb2_grpc.add_ChannelzServicer_to_server(ChannelzServicer(), self._grpc)
        standard = [
            health.SERVICE_NAME,
            channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
        ]
        info = server_info_pb2.DESCRIPTOR.services_by_name["ServerInfoService"].full_name
        add_reflection([*names, info, *standard], self._grpc)

    async def start(self) -> str:
        """Listen, begin to watch health, and return the address as host:port.

        Raises:
            RuntimeError: The address cannot be listened on.
        """
        settings = self._settings
        await self._monitor.start()
        address = f"{settings.host}:{settings.port}"
        port = (
            self._grpc.add_secure_port(address, self._credentials)
            if self._credentials
            else self._grpc.add_insecure_port(address)
        )
        await self._grpc.start()
        if self._probed is not None:
            probed_port = self._probed.add_insecure_port(f"{settings.host}:{settings.health_port}")
            self.health_address = f"{settings.host}:{probed_port}"
            await self._probed.start()
        # The first check is awaited: who sees the address finds a service whose health is known.
        await self._monitor.check_once()
        self._watch = asyncio.create_task(self._monitor.watch(), name="health")
        bound = f"{settings.host}:{port}"
        if settings.address_file:
            _write_whole(settings.address_file, bound)
        return bound

    def request_stop(self) -> None:
        """Ask `serve_until_stopped` to return."""
        self._stopping.set()

    async def serve_until_stopped(self) -> None:
        """Wait for a stop; then turn NOT_SERVING, let running calls finish within the grace period, and stop."""
        await self._stopping.wait()
        _log.info("draining", grace_s=self._settings.shutdown_grace_s)
        self._watch.cancel()
        await asyncio.wait([self._watch])  # a check that ends late would turn it back
        await self._monitor.drain()
        await asyncio.sleep(self._settings.shutdown_delay_s)
        await self._grpc.stop(self._settings.shutdown_grace_s)
        if self._probed is not None:
            await self._probed.stop(0)
        _log.info("stopped")


@contextlib.asynccontextmanager
async def serving(settings: SettingsT, build: Build[SettingsT]) -> AsyncIterator[tuple[Server, str]]:
    """Serve while inside, in this process: yields the server and its address. For tests and embedding."""
    async with build(settings) as assembly:
        server = Server(settings, assembly)
        address = await server.start()
        stopped = asyncio.create_task(server.serve_until_stopped())
        try:
            yield server, address
        finally:
            server.request_stop()
            await stopped


def run(settings: SettingsT, build: Build[SettingsT]) -> None:
    """Serve until SIGTERM or SIGINT: the body of a service's process. Exits with 1 if it cannot start."""
    configure_logs(settings)
    sys.setswitchinterval(_SWITCH_S)
    try:
        asyncio.run(_run(settings, build))
    except (RuntimeError, OSError) as error:
        _log.error("cannot serve", error=str(error))
        raise SystemExit(1) from error


async def _run(settings: SettingsT, build: Build[SettingsT]) -> None:
    with exporting(settings) as metrics_port:
        async with build(settings) as assembly:
            server = Server(settings, assembly)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, server.request_stop)
            address = await server.start()
            # What is there now stays. Looking through it for garbage would stop all calls, 30 to 110 ms each time.
            gc.collect()
            gc.freeze()
            _log.info(
                "listening",
                address=address,
                health_address=server.health_address,
                metrics_port=metrics_port,
                version=__version__,
            )
            await server.serve_until_stopped()


def _connection_age(settings: ServerSettings) -> list[tuple[str, int]]:
    """Return gRPC's options for it. Calls that run are let finish, however long."""
    if settings.max_connection_age_s is None:
        return []
    return [("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000))]


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)
