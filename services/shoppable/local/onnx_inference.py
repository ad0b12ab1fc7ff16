"""A substitute for Triton where Triton cannot run: the same protocol and models, on ONNX Runtime alone.

    python -m shoppable.local.onnx_inference --port 8001 --repository deploy/triton/models

It is asked for by name (`--inference onnxruntime`), never chosen silently. It has no metrics and no dynamic
batching, and all its models share one process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc

from shoppable.local.inference import InferenceServer, InferenceServerSettings, StateChange
from shoppable.local.kserve import InferenceServicer, OnnxModel
from shoppable.local.model_repository import ModelSpec, read_model_repository
from shoppable.local.ports import LOOPBACK, ReservedPort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LOGGER = logging.getLogger(__name__)
# Of the model repository's configurations, the one whose limits hold here.
_CONFIG_NAME = "cpu"
_STOP_GRACE_S = 5.0
# Several of the largest batch (8 images of 786 kB), so that a batch that is too large still gets its own error.
_MESSAGE_BYTES = 64 * 1024 * 1024
_INHERITED_VARIABLES = ("HOME", "LANG", "LC_ALL", "PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


class OnnxInferenceServer(InferenceServer):
    """The substitute as a child process; made by `start`."""

    name = "onnx-inference"

    def __init__(
        self,
        *,
        repository: Path,
        threads: int,
        settings: InferenceServerSettings,
        on_change: Callable[[StateChange], None] | None,
        log_path: Path | None,
        port: int,
    ) -> None:
        super().__init__(
            models=read_model_repository(repository, config_name=_CONFIG_NAME),
            settings=settings,
            on_change=on_change,
            log_path=log_path,
        )
        try:
            self._port = ReservedPort(number=port)
        except OSError:
            super()._release()
            raise
        self._repository = repository.resolve()
        self._threads = threads

    @classmethod
    async def start(
        cls,
        *,
        repository: Path,
        threads: int | None = None,
        settings: InferenceServerSettings | None = None,
        on_change: Callable[[StateChange], None] | None = None,
        log_path: Path | None = None,
        port: int = 0,
    ) -> Self:
        """Starts a server and returns when each of its models has answered an inference.

        Args:
            repository: The model repository; each model's `configs/cpu.pbtxt` is used.
            threads: Images computed at the same time, over all models; by default one for each core.
            settings: How the server is watched and ended.
            on_change: Told of each change of state, on the event loop; must be quick.
            log_path: Where the server's output goes; by default a private file that goes with the server.
            port: For gRPC; 0 for any free one.

        Raises:
            ModelRepositoryError: The repository cannot be used.
            InferenceServerError: The server did not become ready.
            OSError: The port is taken.
        """
        server = cls(
            repository=repository,
            threads=threads or _default_threads(),
            settings=settings or InferenceServerSettings(),
            on_change=on_change,
            log_path=log_path,
            port=port,
        )
        await server._begin()
        return server

    @property
    def grpc_endpoint(self) -> str:
        """See `InferenceServer`."""
        return self._port.address

    def _release(self) -> None:
        self._port.release()
        super()._release()

    def _command(self) -> Sequence[str]:
        return (
            sys.executable,
            "-m",
            "shoppable.local.onnx_inference",
            f"--port={self._port.number}",
            f"--repository={self._repository}",
            f"--threads={self._threads}",
        )

    def _environment(self) -> Mapping[str, str]:
        return {
            **{name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }


async def serve(*, models: Sequence[ModelSpec], port: int, threads: int) -> None:
    """Serves models on the loopback address until SIGTERM or SIGINT.

    Raises:
        Exception: A model cannot be loaded.
        RuntimeError: The port is taken.
    """
    servicer = InferenceServicer([OnnxModel(spec) for spec in models], threads=threads)
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # or a second server would get half of the calls
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ]
    )
    server.add_generic_rpc_handlers((servicer.handler(),))
    bound = server.add_insecure_port(f"{LOOPBACK}:{port}")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    _LOGGER.info("serving %d models at %s:%d with %d threads", len(models), LOOPBACK, bound, threads)
    await stop.wait()
    await server.stop(_STOP_GRACE_S)
    servicer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the server from the command line."""
    parser = argparse.ArgumentParser(prog="python -m shoppable.local.onnx_inference", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1; 0 for any free one")
    parser.add_argument("--repository", type=Path, required=True, help="the model repository")
    parser.add_argument("--threads", type=int, default=_default_threads(), help="images at the same time")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    models = read_model_repository(options.repository, config_name=_CONFIG_NAME)
    asyncio.run(serve(models=models, port=options.port, threads=max(1, options.threads)))


def _default_threads() -> int:
    return os.cpu_count() or 1


if __name__ == "__main__":
    main()
