"""The whole suite on this machine: inference server, matcher with Qdrant Edge, detector, decoder, orchestrator.

    async with LocalSuite(SuiteOptions(data_folder=folder)) as suite:
        async with open_channel(suite.endpoints.orchestrator) as channel:
            ...

Each service is a process of its own, listens on the loopback address, is restarted when it dies, and ends with this
program whatever ends it. This is for one machine and trusted users; `deploy/` is for everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shoppable.local import locations
from shoppable.local.data_folder import DataFolder, DataFolderError, Endpoints
from shoppable.local.inference import InferenceServerError, ServerState, StateChange
from shoppable.local.model_repository import ModelRepositoryError
from shoppable.local.ports import ReservedPort
from shoppable.local.service_process import ServiceError, ServicePolicy, ServiceProcess, unproxied
from shoppable.local.triton_requirements import TritonRequirementError

if TYPE_CHECKING:
    from types import TracebackType

    from shoppable.local.inference import InferenceServer

# Their order is that of the ports from a base on, and fits the services' own defaults.
SERVICES = ("orchestrator", "decoder", "detector", "matcher")
_LOGS_KEPT = 20
_INSTANCES_AT_MOST = 8


class SuiteError(Exception):
    """The suite cannot run; the text says what failed, where its log is, and what to do."""


class Inference(enum.StrEnum):
    """What computes the models."""

    TRITON = "triton"
    ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """How the suite is to run.

    Attributes:
        data_folder: Holds the catalogues; one suite at a time owns it.
        inference: The real Triton, or its substitute; never chosen silently.
        services: Which services; by default all. What the chosen ones need must be among them.
        port_base: Port of the orchestrator, with decoder, detector and matcher behind it; 0 for any free ports.
        file_roots: Folders from which the decoder may read `file://` URIs.
        log_folder: By default a new one for each run under the state folder; the last twenty are kept.
        model_repository: The Triton model repository.
        policy: How patient we are with the services.
        route: Given the name of a service (or "inference") and its address, the address at which the other services
            reach it; the same unless something stands in between.
    """

    data_folder: Path
    inference: Inference = Inference.TRITON
    services: Sequence[str] = SERVICES
    port_base: int = 0
    file_roots: Sequence[Path] = ()
    log_folder: Path | None = None
    model_repository: Path = locations.MODEL_REPOSITORY
    policy: ServicePolicy = field(default_factory=ServicePolicy)
    route: Callable[[str, str], str] = lambda _, address: address


class LocalSuite:
    """The running suite; an async context manager."""

    def __init__(self, options: SuiteOptions, *, on_event: Callable[[str], None] = lambda _: None) -> None:
        """Prepares a suite; entering it starts it.

        Args:
            options: How it is to run.
            on_event: Told in a few words what happens, for people; on the event loop.
        """
        self._options = options
        self._on_event = on_event
        self._data: DataFolder | None = None
        self._inference: InferenceServer | None = None
        self._services: dict[str, ServiceProcess] = {}
        self._scratch = Path()
        self._failure: asyncio.Future[None] | None = None
        self.log_folder = Path()
        self.endpoints = Endpoints()

    @property
    def pids(self) -> dict[str, int | None]:
        """The process of each service, and of the inference server."""
        inference = None if self._inference is None else self._inference.server_pid
        return {"inference": inference, **{name: service.pid for name, service in self._services.items()}}

    async def wait_for_failure(self) -> None:
        """Waits as long as the suite is well.

        Raises:
            SuiteError: A service keeps dying.
        """
        assert self._failure is not None, "enter the suite first"  # noqa: S101
        await asyncio.shield(self._failure)

    async def __aenter__(self) -> Self:
        self._failure = asyncio.get_running_loop().create_future()
        # gRPC reads it from the environment when a channel connects; our callers are about to do so.
        os.environ["no_grpc_proxy"] = unproxied(os.environ)  # noqa: SIM112 -- its name is lower-case
        try:
            self._data = DataFolder(self._options.data_folder)
            self.log_folder = self._options.log_folder or _new_log_folder()
            self.log_folder.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix="shoppable-suite-"))
            self._prepare_services()
            await self._start()
        except (DataFolderError, ServiceError, ModelRepositoryError) as error:
            await self._stop()
            raise SuiteError(str(error)) from error
        except TritonRequirementError as error:
            await self._stop()
            raise SuiteError(f"Triton cannot run here. {error}") from error
        except InferenceServerError as error:
            await self._stop()
            raise SuiteError(f"{error}\nIts log: {self._log('inference')}") from error
        except OSError as error:
            await self._stop()
            raise SuiteError(f"the local services cannot start: {error}") from error
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    def _log(self, name: str) -> Path:
        return self.log_folder / f"{name}.log"

    def _prepare_services(self) -> None:
        options = self._options
        ports = {}
        for offset, name in enumerate(SERVICES):
            if name not in options.services:
                continue
            number = options.port_base + offset if options.port_base else 0
            try:
                ports[name] = ReservedPort(number=number)
            except OSError as error:
                for port in ports.values():
                    port.release()
                raise SuiteError(
                    f"port {number}, meant for the {name}, cannot be used: {error.strerror}; "
                    "free it, or choose others with --port-base"
                ) from error
        addresses = {name: port.address for name, port in ports.items()}
        roots = ",".join(str(root.resolve()) for root in options.file_roots)
        arguments = {
            "orchestrator": [
                f"--{name}-endpoint={options.route(name, addresses[name]) if name in addresses else ''}"
                for name in SERVICES[1:]
            ],
            "decoder": [f"--file-roots={roots}"] if roots else [],
            "detector": [],
            "matcher": ["--index=edge", f"--data-dir={options.data_folder.resolve() / 'catalogs'}"],
        }
        for name, port in ports.items():
            self._services[name] = ServiceProcess(
                name,
                arguments=arguments[name],
                port=port,
                log_path=self._log(name),
                work_folder=self._scratch,
                policy=options.policy,
                on_event=self._on_event,
                on_failure=self._fail,
            )
        self.endpoints = Endpoints(pid=os.getpid(), **addresses)

    async def _start(self) -> None:
        """Starts all, each when what it needs is there: a service's first health check then finds it ready."""
        await _together([self._start_inference(), *self._starts("decoder")])
        assert self._inference is not None  # noqa: S101 -- started above
        endpoint = self._inference.grpc_endpoint
        routed = self._options.route("inference", endpoint)
        for name in ("detector", "matcher"):
            if name in self._services:
                self._services[name].add_argument(f"--triton-endpoint={routed}")
        await _together([*self._starts("detector"), *self._starts("matcher")])
        await _together(self._starts("orchestrator"))
        self.endpoints = Endpoints(
            inference=endpoint, pid=os.getpid(), **{name: service.endpoint for name, service in self._services.items()}
        )
        assert self._data is not None  # noqa: S101 -- claimed before
        self._data.publish(self.endpoints)

    def _starts(self, name: str) -> list[Coroutine[None, None, None]]:
        return [self._services[name].start()] if name in self._services else []

    async def _start_inference(self) -> None:
        repository = self._options.model_repository
        log_path = self._log("inference")
        if self._options.inference is Inference.TRITON:
            from shoppable.local.triton import TritonServer

            self._on_event("starting Triton and its models")
            cores = os.cpu_count() or 1
            self._inference = await TritonServer.start(
                repository=repository,
                instances=min(cores, _INSTANCES_AT_MOST) if cores > 2 else None,  # the repository's own suit two cores
                log_path=log_path,
                on_change=self._inference_changed,
            )
        else:
            from shoppable.local.onnx_inference import OnnxInferenceServer

            self._on_event("starting ONNX Runtime in Triton's place, as asked for")
            self._inference = await OnnxInferenceServer.start(
                repository=repository, log_path=log_path, on_change=self._inference_changed
            )

    def _inference_changed(self, change: StateChange) -> None:
        if change.state is ServerState.RESTARTING:
            self._on_event(f"restarting the inference server: {change.reason}")

    def _fail(self, error: ServiceError) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(SuiteError(str(error)))
            self._failure.exception()  # retrieved: nobody has to wait for it

    async def _stop(self) -> None:
        """Stops all, those that ask before those that are asked, so that calls in work can end well."""
        if self._data is not None:
            self._on_event("stopping")
        for names in (("orchestrator",), ("decoder", "detector", "matcher")):
            await asyncio.gather(*(self._services[name].stop() for name in names if name in self._services))
        if self._inference is not None:
            await self._inference.stop()
        if self._data is not None:
            self._data.release()
            self._data = None
        if self._scratch != Path():
            # A few small files; and in a program that is ending, as a notebook's, no thread can be had.
            shutil.rmtree(self._scratch, ignore_errors=True)


async def _together(starts: Sequence[Coroutine[None, None, None]]) -> None:
    """Runs all; the first error cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _new_log_folder() -> Path:
    runs = locations.state_home() / "logs"
    folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(OSError):
        for old in sorted(entry for entry in runs.iterdir() if entry.is_dir())[:-_LOGS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return folder
