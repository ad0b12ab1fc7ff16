"""The real Triton Inference Server, from the `nvidia-pytriton` wheel, on this machine's CPU.

    async with await TritonServer.start(repository=Path("deploy/triton/models")) as server:
        client = InferenceServerClient(server.grpc_endpoint)

The wheel's server is 2.51, which has known holes in its shared-memory and HTTP interfaces, and loading a model runs
what is in it. So it listens on a socket in a folder that only its owner can enter, without HTTP, and the interfaces
that the suite does not use are closed. A key would not keep other users out: Triton takes keys on its command line,
which everybody can read. It is for one user's programs on one machine; for anything else use NVIDIA's image
(deploy/triton/README.md).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import stat
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Self

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from shoppable.local import processes
from shoppable.local.guardian import remove_shared_memory, shared_memory_regions
from shoppable.local.inference import InferenceServer, InferenceServerSettings, StateChange
from shoppable.local.model_repository import ModelSpec, read_model_repository
from shoppable.local.ports import LOOPBACK, UNIX, ReservedPort
from shoppable.local.triton_requirements import Host, TritonInstallation, find_triton

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LOGGER = logging.getLogger(__name__)
_CPU = "cpu"  # the configuration that needs no GPU
_STUB = "triton_python_backend_stub"
# What the suite never calls, and what the known attacks begin with.
_CLOSED_PROTOCOLS = "trace,logging"
_CLOSED_WITHOUT_MODEL_CONTROL = ",model-repository,statistics"
# Triton makes a socket's name of the path and the port; no port is taken.
_SOCKET_PORT = 1
_SOCKET_PATH_BYTES = 107  # that Linux allows
_FOLDER_AND_SOCKET_BYTES = 48  # of them, for what is made in the temporary folder
_SHORT_FOLDER = "/tmp"  # noqa: S108 -- the folder made in it is its owner's alone
# The rest of our environment, with whatever secrets it holds, is not Triton's business.
_INHERITED_VARIABLES = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


class TritonServer(InferenceServer):
    """A running `tritonserver`; made by `start`."""

    name = "tritonserver"

    def __init__(
        self,
        *,
        installation: TritonInstallation,
        repository: Path,
        backends: Path | None,
        instances: int | None,
        settings: InferenceServerSettings,
        on_change: Callable[[StateChange], None] | None,
        log_path: Path | None,
        metrics_port: int,
        model_control: bool,
        config_name: str,
    ) -> None:
        super().__init__(
            models=read_model_repository(repository, config_name=config_name),
            settings=settings,
            on_change=on_change,
            log_path=log_path,
        )
        self._installation = installation
        self._model_control = model_control
        self._config_name = config_name
        self._repository = repository = repository.resolve()
        # Unique, so that the regions of another server are never removed.
        self._regions = f"shoppable-{secrets.token_hex(8)}-"
        # A header with a capital letter cannot be sent over HTTP/2, and the value is never told: the command
        # line of a process is no secret from other users of the machine.
        self._lock = f"Closed-{secrets.token_hex(4)}={secrets.token_urlsafe(32)}"
        self._stubs: frozenset[int] = frozenset()
        self._metrics_port: ReservedPort | None = None
        try:
            self._metrics_port = ReservedPort(number=metrics_port)
            _assemble_backends(
                installation, backends=backends or repository.parent / "backends", folder=self._backends_folder
            )
            if instances is not None:
                self._repository = self._work_folder / "models"
                _scale_repository(repository, folder=self._repository, instances=instances, config_name=config_name)
                self.models = read_model_repository(self._repository, config_name=config_name)
        except BaseException:
            self._release()
            raise

    @classmethod
    async def start(
        cls,
        *,
        repository: Path,
        backends: Path | None = None,
        instances: int | None = None,
        settings: InferenceServerSettings | None = None,
        on_change: Callable[[StateChange], None] | None = None,
        log_path: Path | None = None,
        metrics_port: int = 0,
        model_control: bool = False,
        config_name: str = _CPU,
    ) -> Self:
        """Starts a server and returns when each of its models has answered an inference.

        Args:
            repository: The model repository.
            backends: The folder of our own backends; by default `backends` beside the repository.
            instances: Processes for each model, instead of the configuration's number.
            settings: How the server is watched and ended.
            on_change: Told of each change of state, on the event loop; must be quick.
            log_path: Where the server's output goes; by default a private file that goes with the server.
            metrics_port: For Prometheus; 0 for any free one.
            model_control: Whether models can be loaded and unloaded while it runs (Triton's explicit mode); it begins
                with all that the repository holds. Which models there are is then no business of ours any more: only
                the server itself is watched and restarted.
            config_name: Which of the models' configurations in `configs/`; all but `cpu` may take GPUs.

        Raises:
            TritonRequirementError: Triton cannot run on this machine.
            ModelRepositoryError: The repository cannot be used.
            InferenceServerError: The server did not become ready.
            OSError: The metrics' port is taken, or the disk is full.
        """
        installation = find_triton(Host.current())
        server = cls(
            installation=installation,
            repository=repository,
            backends=backends,
            instances=instances,
            settings=settings or InferenceServerSettings(),
            on_change=on_change,
            log_path=log_path,
            metrics_port=metrics_port,
            model_control=model_control,
            config_name=config_name,
        )
        await server._begin()
        return server

    @property
    def grpc_endpoint(self) -> str:
        """See `InferenceServer`: a socket, which only its owner can connect to."""
        return f"{UNIX}{self._socket}"

    @property
    def _socket(self) -> Path:
        return self._work_folder / f"grpc:{_SOCKET_PORT}"

    def _scratch_folder(self) -> str:
        folder = super()._scratch_folder()
        return folder if len(os.fsencode(folder)) + _FOLDER_AND_SOCKET_BYTES <= _SOCKET_PATH_BYTES else _SHORT_FOLDER

    @property
    def metrics_endpoint(self) -> str | None:
        """The URL of the metrics in Prometheus' format."""
        return None if self._metrics_port is None else f"http://{self._metrics_port.address}/metrics"

    @property
    def shared_memory_prefix(self) -> str:
        """How the names of this server's regions in /dev/shm begin."""
        return self._regions

    @property
    def stub_pids(self) -> frozenset[int]:
        """The processes that hold the models, one for each instance."""
        return self._stubs

    @property
    def _backends_folder(self) -> Path:
        return self._work_folder / "backends"

    def _command(self) -> Sequence[str]:
        assert self._metrics_port is not None  # noqa: S101 -- set by __init__
        control, closed = ["--model-control-mode=none"], _CLOSED_PROTOCOLS + _CLOSED_WITHOUT_MODEL_CONTROL
        if self._model_control:
            control, closed = ["--model-control-mode=explicit", "--load-model=*"], _CLOSED_PROTOCOLS
        return (
            str(_executable(self._installation.binary, folder=self._work_folder)),
            f"--model-repository={self._repository}",
            f"--backend-directory={self._backends_folder}",
            f"--model-config-name={self._config_name}",
            "--disable-auto-complete-config",
            *control,
            f"--grpc-address={UNIX}{self._work_folder / 'grpc'}",
            f"--grpc-port={_SOCKET_PORT}",
            f"--grpc-restricted-protocol={closed}:{self._lock}",
            "--allow-http=false",
            "--allow-sagemaker=false",
            "--allow-vertex-ai=false",
            f"--metrics-address={LOOPBACK}",
            f"--metrics-port={self._metrics_port.number}",
            f"--allow-gpu-metrics={'false' if self._config_name == _CPU else 'true'}",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            f"--exit-timeout-secs={max(1, int(self.settings.stop_grace_s) - 1)}",
            "--log-format=ISO8601",
        )

    def _environment(self) -> Mapping[str, str]:
        site_packages = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
        return {
            **{name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
            # The Python backend finds its standard library through the first python in PATH.
            "PATH": os.pathsep.join((str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath))),
            "PYTHONPATH": os.pathsep.join(site_packages),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, self._installation.library_folders)),
            # A server for the CPU leaves a GPU's memory untouched.
            **({"CUDA_VISIBLE_DEVICES": ""} if self._config_name == _CPU else {}),
        }

    def _shared_memory_prefix(self) -> str:
        return self._regions

    def _after_start(self) -> None:
        # They hold the images, and are made readable for every user whatever the umask.
        for region in shared_memory_regions(self._regions):
            with contextlib.suppress(FileNotFoundError):  # of an earlier server, just gone
                region.chmod(0o600)
        pid = self.server_pid
        self._stubs = frozenset() if pid is None else processes.children_named(pid, name=_STUB)
        expected = sum(model.instances for model in self.models)
        if len(self._stubs) != expected:
            _LOGGER.warning("found %d processes of models, expected %d", len(self._stubs), expected)

    def _probed_models(self) -> Sequence[ModelSpec]:
        return () if self._model_control else self.models

    def _process_fault(self) -> str | None:
        if self._model_control:  # the process of a model that is unloaded ends, and is no fault
            return None
        # A dead instance answers faster than a living one computes, and so draws most requests: every moment
        # counts, and a probe can miss it.
        dead = sorted(pid for pid in self._stubs if not processes.is_alive(pid))
        return f"the process of a model died (pid {dead[0]})" if dead else None

    def _release(self) -> None:
        if self._metrics_port is not None:
            self._metrics_port.release()
        remove_shared_memory(self._regions)  # in case the guardian was killed
        super()._release()


def _assemble_backends(installation: TritonInstallation, *, backends: Path, folder: Path) -> None:
    """Puts the Python backend and ours where Triton looks for them.

    They are copies (3 MB): Triton refuses a library behind a link that leads out of the backend's folder, and
    the wheel keeps the stub elsewhere, one for each version of Python.
    """
    python = folder / "python"
    shutil.copytree(installation.python_backend, python, ignore=shutil.ignore_patterns("__pycache__"))
    stub = python / _STUB
    shutil.copyfile(installation.stub, stub)
    stub.chmod(0o700)
    for backend in sorted(entry for entry in backends.iterdir() if entry.is_dir()):
        shutil.copytree(backend, folder / backend.name, ignore=shutil.ignore_patterns("__pycache__"))


def _executable(binary: Path, *, folder: Path) -> Path:
    """The server itself, or a copy that may be run: some installers lose the run bit."""
    if os.access(binary, os.X_OK):
        return binary
    copy = folder / binary.name
    if not copy.exists():
        shutil.copyfile(binary, copy)
        copy.chmod(stat.S_IRWXU)
    return copy


def _scale_repository(repository: Path, *, folder: Path, instances: int, config_name: str) -> None:
    """Makes a repository of links to another one's models, with another number of instances."""
    for model in sorted(entry for entry in repository.iterdir() if entry.is_dir()):
        source = model / "configs" / f"{config_name}.pbtxt"
        config = text_format.Parse(source.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        for group in config.instance_group:
            group.count = instances
        target = folder / model.name / "configs" / source.name
        target.parent.mkdir(parents=True)
        target.write_text(text_format.MessageToString(config), encoding="utf-8")
        for version in model.iterdir():
            if version.name.isdecimal():
                (folder / model.name / version.name).symlink_to(version, target_is_directory=True)
