"""An inference server on this machine, kept alive: what Triton and its substitute have in common.

A server is ready when each of its models has answered a real inference, and broken when one does not: Triton
goes on to report a model as ready after the model's process has died. A broken server is restarted at the same
address, so that nobody has to be told a new one. This module knows no particular server; see `triton` and
`onnx_inference`.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import enum
import logging
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shoppable.local.guarded_process import GuardedProcess
from shoppable.local.inference_probe import ProbeError, ProbeTimeout, probe_model, wait_until_listening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from shoppable.local.model_repository import ModelSpec

_LOGGER = logging.getLogger(__name__)
# Models take every core that they can have. Where services share the machine with them, theirs must come first: a call
# is taken or refused in a moment of computing, for which it else waits behind all the inferences that run.
_NICENESS = 10
_LOG_LINES = 8
_LOG_LINE_CHARACTERS = 400
# A line of Triton's at level E, its last words, or the end of a Python traceback.
_COMPLAINT = re.compile(r"Z E \d+ |^error: |^[\w.]*(Error|Exception): ")


class InferenceServerError(Exception):
    """The server could not be started; the text holds the end of its log."""


class ServerState(enum.Enum):
    """Where a server stands."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StateChange:
    """What `on_change` is told.

    Attributes:
        state: The new state.
        reason: Why, for an operator to read.
    """

    state: ServerState
    reason: str


@dataclass(frozen=True, slots=True)
class InferenceServerSettings:
    """How a server is watched and ended.

    Attributes:
        startup_timeout_s: From the start to the last model's first answer.
        watch_interval_s: Between looks at the server's processes, which cost next to nothing.
        probe_interval_s: Between probes by inference; one costs an image's computation for each model.
        probe_timeout_s: For one model's answer. Generous, because a probe queues behind the callers' requests.
        probe_timeouts_allowed: So many in a row are taken for load before they are taken for a fault.
        stop_grace_s: From SIGTERM to SIGKILL.
        restart_backoff_s: Before the second attempt of a restart; it doubles with each further one.
        restart_backoff_limit_s: The longest wait between attempts.
    """

    startup_timeout_s: float = 60.0
    watch_interval_s: float = 0.25
    probe_interval_s: float = 15.0
    probe_timeout_s: float = 10.0
    probe_timeouts_allowed: int = 2
    stop_grace_s: float = 10.0
    restart_backoff_s: float = 0.5
    restart_backoff_limit_s: float = 30.0


class InferenceServer(abc.ABC):
    """A server process, its address and the task that keeps it alive. Use as an async context manager."""

    name: str  # names the log file and the messages

    def __init__(
        self,
        *,
        models: Sequence[ModelSpec],
        settings: InferenceServerSettings,
        on_change: Callable[[StateChange], None] | None,
        log_path: Path | None,
    ) -> None:
        self.models = tuple(models)
        self.settings = settings
        self.state = ServerState.STARTING
        self._on_change = on_change
        self._work_folder = Path(tempfile.mkdtemp(prefix=f"shoppable-{self.name}-", dir=self._scratch_folder()))
        self.log_path = log_path or self._work_folder / f"{self.name}.log"
        self._process: GuardedProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    @abc.abstractmethod
    def grpc_endpoint(self) -> str:
        """Address of the inference protocol, as gRPC takes it; the same for as long as this object lives."""

    def _scratch_folder(self) -> str:
        """Where the server's own folder is made."""
        return tempfile.gettempdir()

    @property
    def metrics_endpoint(self) -> str | None:
        """Where Prometheus finds the metrics, or None if the server has none."""
        return None

    @property
    def server_pid(self) -> int | None:
        """The server's process, while there is one."""
        return None if self._process is None else self._process.server_pid

    async def stop(self) -> None:
        """Ends the server and waits until nothing of it is left; may be called again."""
        if self.state is ServerState.STOPPED:
            return
        self.state = ServerState.STOPPED  # first, so that nobody takes the end for a fault
        try:
            if self._supervisor is not None:
                self._supervisor.cancel()
                await asyncio.wait([self._supervisor])
            if self._process is not None:
                await self._process.stop()
                self._process = None
        finally:
            self._release()
        self._report(ServerState.STOPPED, "asked to stop")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @abc.abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments; it is to listen at `grpc_endpoint`."""

    @abc.abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """All of the program's environment."""

    def _shared_memory_prefix(self) -> str:
        """How the names of the server's shared memory begin; empty if it has none."""
        return ""

    def _after_start(self) -> None:  # noqa: B027 -- a hook; most servers have nothing to do
        """Called when the server is ready, the first time and after each restart."""

    def _probed_models(self) -> Sequence[ModelSpec]:
        """The models whose failing is a fault of the server."""
        return self.models

    def _process_fault(self) -> str | None:
        """What is wrong with the processes under the server, if anything; called often, must be quick."""
        return None

    async def _begin(self) -> None:
        """Starts the server and the task that keeps it alive.

        Raises:
            InferenceServerError: It did not become ready.
        """
        try:
            await self._start_process()
        except BaseException as error:
            await self._abandon_process()
            message = f"{self.name} did not start: {error}{self._log_tail()}"
            self.state = ServerState.STOPPED
            self._release()
            if isinstance(error, (OSError, ProbeError, TimeoutError)):
                raise InferenceServerError(message) from error
            raise
        self._report(ServerState.READY, "every model answered an inference")
        self._supervisor = asyncio.create_task(self._supervise(), name=f"{self.name} supervisor")

    async def _start_process(self) -> None:
        """Starts the process and returns when every model has answered.

        Raises:
            OSError: The program cannot be started.
            ProbeError: The process ended, or a model failed.
            TimeoutError: It took too long.
        """
        self._process = process = await GuardedProcess.start(
            self._command(),
            environment=self._environment(),
            log_path=self.log_path,
            work_folder=self._work_folder,
            grace_s=self.settings.stop_grace_s,
            shared_memory_prefix=self._shared_memory_prefix(),
            niceness=_NICENESS,
        )
        async with asyncio.timeout(self.settings.startup_timeout_s):
            await wait_until_listening(self.grpc_endpoint, has_ended=lambda: process.exit_status)
            for model in self.models:
                await probe_model(self.grpc_endpoint, model, timeout_s=self.settings.startup_timeout_s)
        self._after_start()

    async def _supervise(self) -> None:
        while True:
            try:
                reason = await self._wait_for_fault()
            except Exception as error:  # a supervisor that gives up helps nobody
                _LOGGER.exception("%s: watching failed", self.name)
                reason = f"watching failed: {error}"
            self._report(ServerState.RESTARTING, reason)
            await self._restart()
            self._report(ServerState.READY, "restarted; every model answered an inference")

    async def _wait_for_fault(self) -> str:
        """Returns, in words, what has gone wrong, when something has."""
        loop = asyncio.get_running_loop()
        next_probe_s = loop.time() + self.settings.probe_interval_s
        timeouts = 0
        while True:
            if self._process is None:
                return f"{self.name} is not running"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.watch_interval_s):
                    return f"{self.name} ended with exit status {await self._process.wait()}"
            if (fault := self._process_fault()) is not None:
                return fault
            if loop.time() < next_probe_s:
                continue
            try:
                for model in self._probed_models():
                    await probe_model(self.grpc_endpoint, model, timeout_s=self.settings.probe_timeout_s)
                timeouts = 0
            except ProbeTimeout as error:
                timeouts += 1
                _LOGGER.warning("%s: %s (%d in a row)", self.name, error, timeouts)
                if timeouts > self.settings.probe_timeouts_allowed:
                    return str(error)
            except ProbeError as error:
                return str(error)
            next_probe_s = loop.time() + self.settings.probe_interval_s

    async def _restart(self) -> None:
        """Tries until the server is ready again."""
        backoff_s = self.settings.restart_backoff_s
        while True:
            await self._abandon_process()
            try:
                await self._start_process()
            except Exception as error:  # as above
                self._report(ServerState.RESTARTING, f"failed, next attempt in {backoff_s:g} s: {error}")
            else:
                return
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self.settings.restart_backoff_limit_s)

    async def _abandon_process(self) -> None:
        """Ends a process that is of no use any more."""
        process = self._process
        if process is not None:
            await process.stop(at_once=True)
            self._process = None

    def _report(self, state: ServerState, reason: str) -> None:
        self.state = state
        level = logging.WARNING if state is ServerState.RESTARTING else logging.INFO
        _LOGGER.log(level, "%s at %s is %s: %s", self.name, self.grpc_endpoint, state.value, reason)
        if self._on_change is None:
            return
        try:
            self._on_change(StateChange(state=state, reason=reason))
        except Exception:  # whoever listens must not stop the supervision
            _LOGGER.exception("%s: the listener to state changes failed", self.name)

    def _release(self) -> None:
        shutil.rmtree(self._work_folder, ignore_errors=True)

    def _log_tail(self) -> str:
        """The last complaints in the server's log, or the last lines if there are none."""
        try:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        shown = [line for line in lines if _COMPLAINT.search(line)] or lines
        tail = "\n".join(line[:_LOG_LINE_CHARACTERS] for line in shown[-_LOG_LINES:])
        return f"\nFrom its log:\n{tail}" if tail else ""
