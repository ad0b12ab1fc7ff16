"""One of the suite's services as a child process: started, awaited until SERVING, restarted when it dies, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoppable.local.guarded_process import GuardedProcess
from shoppable.local.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOGGER = logging.getLogger(__name__)
_CHECK_S = 0.1
_LOG_LINES = 6
_LOG_LINE_CHARACTERS = 300
_CHANNEL_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a shared one would wait out the back-off of earlier refusals
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
# Local servers speak plain gRPC on the loopback address, to whoever can reach it; what is set for other servers'
# certificates, callers and peers is not theirs.
_FOREIGN_VARIABLE = re.compile(r"SHOPPABLE_(\w+_)?(TLS|AUTH|QUOTA|PEER)_\w+|SHOPPABLE_(\w+_)?METRICS_PORT")
# The services compute little themselves. A thread pool for each core in each of them would only fight with the
# inference server, which has the cores.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ServiceError(Exception):
    """A service could not be started, or keeps dying; the text says which and holds the end of its log."""


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """How patient we are with a service.

    Attributes:
        startup_timeout_s: From the start to SERVING.
        drain_s: That running calls have to finish after SIGTERM.
        stop_grace_s: From SIGTERM to SIGKILL; longer than `drain_s`, for what is closed after it.
        restarts_allowed: In a row; a service that then ran for `steady_s` begins anew.
        restart_backoff_s: Before the first restart; doubles with each further one.
        steady_s: A service that runs so long is taken to be well.
    """

    startup_timeout_s: float = 60.0
    drain_s: float = 3.0
    stop_grace_s: float = 8.0
    restarts_allowed: int = 5
    restart_backoff_s: float = 0.2
    steady_s: float = 60.0


class ServiceProcess:
    """A service, its port and the task that keeps it alive."""

    def __init__(
        self,
        name: str,
        *,
        arguments: Sequence[str],
        port: ReservedPort,
        log_path: Path,
        work_folder: Path,
        policy: ServicePolicy,
        on_event: Callable[[str], None],
        on_failure: Callable[[ServiceError], None],
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._arguments = tuple(arguments)
        self._port = port
        self._work_folder = work_folder
        self._policy = policy
        self._on_event = on_event
        self._on_failure = on_failure
        self._process: GuardedProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        """Host and port; the same after a restart."""
        return self._port.address

    @property
    def pid(self) -> int | None:
        """The service's process, while there is one."""
        return None if self._process is None else self._process.server_pid

    def add_argument(self, argument: str) -> None:
        """Adds a flag that was not known before, for the start and every restart to come."""
        self._arguments += (argument,)

    async def start(self) -> None:
        """Starts it, returns when it is SERVING, and keeps it alive from then on.

        Raises:
            ServiceError: It ended, or was not SERVING in time.
        """
        self._on_event(f"starting the {self.name}")
        await self._start_process()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"{self.name} supervisor")

    async def stop(self) -> None:
        """Drains and ends it, and waits until nothing of it is left; may be called again."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._process is not None:
            await self._process.stop()
            self._process = None
        self._port.release()

    async def _start_process(self) -> None:
        command = (
            sys.executable,
            "-m",
            f"shoppable.{self.name}",
            "--host=127.0.0.1",
            f"--port={self._port.number}",
            "--log-format=human",
            f"--shutdown-grace-s={self._policy.drain_s}",
            *self._arguments,
        )
        try:
            self._process = process = await GuardedProcess.start(
                command,
                environment=_environment(),
                log_path=self.log_path,
                work_folder=self._work_folder,
                grace_s=self._policy.stop_grace_s,
            )
            async with asyncio.timeout(self._policy.startup_timeout_s):
                await _wait_until_serving(self.endpoint, process)
        except TimeoutError as error:
            raise self._error(f"was not ready within {self._policy.startup_timeout_s:g} s") from error
        except (OSError, _EndedError) as error:
            raise self._error(f"did not start: {error}") from error

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        restarts = 0
        while True:
            started_s = loop.time()
            assert self._process is not None  # noqa: S101 -- started before
            status = await self._process.wait()
            if loop.time() - started_s > self._policy.steady_s:
                restarts = 0
            while True:
                if restarts >= self._policy.restarts_allowed:
                    self._on_failure(self._error(f"was restarted {restarts} times and ended again ({status})"))
                    return
                self._on_event(f"the {self.name} ended with exit status {status}: restarting it")
                await asyncio.sleep(self._policy.restart_backoff_s * 2**restarts)
                restarts += 1
                try:
                    await self._start_process()
                except ServiceError as error:
                    _LOGGER.warning("%s", error)
                    await self._process.stop(at_once=True)
                else:
                    self._on_event(f"the {self.name} is back")
                    break

    def _error(self, what: str) -> ServiceError:
        return ServiceError(f"the {self.name} {what}\n{log_tail(self.log_path)}")


class _EndedError(Exception):
    """The process ended before it served."""


async def _wait_until_serving(endpoint: str, process: GuardedProcess) -> None:
    async with grpc.aio.insecure_channel(endpoint, options=_CHANNEL_OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types leave the methods out
        while True:
            if process.exit_status is not None:
                raise _EndedError(f"it ended with exit status {process.exit_status}")
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(_CHECK_S)


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not _FOREIGN_VARIABLE.fullmatch(name)}
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [inherited.get("PYTHONPATH")])]
    return {**_THREADS, **inherited, "PYTHONPATH": os.pathsep.join(paths), "no_grpc_proxy": unproxied(inherited)}


def unproxied(environment: os._Environ[str] | dict[str, str]) -> str:
    """What gRPC's `no_grpc_proxy` must be so that a proxy of the environment is not asked for local servers."""
    named = (environment.get(name, "") for name in ("no_grpc_proxy", "no_proxy"))
    return ",".join(filter(None, [next(filter(None, named), ""), "127.0.0.1", "localhost"]))


def log_tail(path: Path) -> str:
    """Says where a log is, and how it ends."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if not lines:
        return f"Its log is empty: {path}"
    tail = "\n".join(f"  {line[:_LOG_LINE_CHARACTERS]}" for line in lines[-_LOG_LINES:])
    return f"The last lines of its log, {path}:\n{tail}"
