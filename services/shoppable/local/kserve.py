"""The part of the KServe v2 inference protocol that the suite uses, answered by ONNX Runtime in this process.

The statuses are Triton's, so that a caller cannot tell the two apart: NOT_FOUND for an unknown model,
INVALID_ARGUMENT for a tensor that does not fit, UNAVAILABLE when too many requests wait. Other methods of the
protocol are UNIMPLEMENTED. Tensors travel as raw bytes only.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import onnxruntime
from tritonclient import utils as triton_types
from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from shoppable.local.model_repository import ModelSpec, TensorSpec

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "inference.GRPCInferenceService"
_LOGGER = logging.getLogger(__name__)
_ERRORS_ONLY = 3  # ONNX Runtime's severity: 0 is verbose, 4 is fatal
_WAITING_PER_THREAD = 32


class RequestError(Exception):
    """A request that gets an error for an answer; `code` is its status."""

    def __init__(self, message: str, *, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code


class OnnxModel:
    """A model's session; may be run from several threads at once."""

    def __init__(self, spec: ModelSpec) -> None:
        """Opens the model.

        Raises:
            Exception: ONNX Runtime refuses the file; it has no narrower class.
        """
        self.spec = spec
        options = onnxruntime.SessionOptions()
        # One thread a run: the pool runs several at once, which does more than one run with several threads.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(str(spec.onnx_path), options, providers=["CPUExecutionProvider"])

    def run(
        self, inputs: dict[str, NDArray[np.generic]], *, outputs: Sequence[str], cancelled: threading.Event
    ) -> list[NDArray[np.generic]]:
        """Computes a batch image by image, which on a CPU is faster than in one run and keeps memory flat.

        Args:
            inputs: A batch of at least one for each input.
            outputs: The wanted outputs.
            cancelled: Looked at between images; if set, nothing is returned.

        Returns:
            The outputs in the order asked for.
        """
        batch = len(next(iter(inputs.values())))
        parts: list[list[NDArray[np.generic]]] = []
        for index in range(batch):
            if cancelled.is_set():
                return []
            image = {name: array[index : index + 1] for name, array in inputs.items()}
            parts.append(self._session.run(list(outputs), image))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class InferenceServicer:
    """Answers the protocol's requests for a set of models."""

    def __init__(self, models: Sequence[OnnxModel], *, threads: int) -> None:
        self._models = {model.spec.name: model for model in models}
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="onnxruntime")
        self._limit = threads * _WAITING_PER_THREAD
        self._waiting = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given to serve."""
        methods: dict[str, Callable[[Any, Context], Awaitable[Any]]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    method,
                    request_deserializer=getattr(service_pb2, f"{name}Request").FromString,
                    response_serializer=getattr(service_pb2, f"{name}Response").SerializeToString,
                )
                for name, method in methods.items()
            },
        )

    def close(self) -> None:
        """Waits for the running inferences and ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    async def server_live(self, request: Any, context: Context) -> Any:
        """Answers ServerLive."""
        return service_pb2.ServerLiveResponse(live=True)

    async def server_ready(self, request: Any, context: Context) -> Any:
        """Answers ServerReady: every model is loaded before the server listens."""
        return service_pb2.ServerReadyResponse(ready=True)

    async def server_metadata(self, request: Any, context: Context) -> Any:
        """Answers ServerMetadata; the version is ONNX Runtime's."""
        return service_pb2.ServerMetadataResponse(name="onnxruntime", version=onnxruntime.__version__)

    async def model_ready(self, request: Any, context: Context) -> Any:
        """Answers ModelReady; like Triton, with no error for an unknown model."""
        try:
            self._find(request.name, version=request.version)
        except RequestError:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def model_metadata(self, request: Any, context: Context) -> Any:
        """Answers ModelMetadata, or NOT_FOUND."""
        try:
            spec = self._find(request.name, version=request.version).spec
        except RequestError as error:
            await context.abort(error.code, str(error))
        response = service_pb2.ModelMetadataResponse(name=spec.name, versions=[spec.version], platform="onnxruntime")
        for tensors, described in ((spec.inputs, response.inputs), (spec.outputs, response.outputs)):
            for tensor in tensors:
                described.add(name=tensor.name, datatype=tensor.datatype, shape=(-1, *tensor.dims))
        return response

    async def model_infer(self, request: Any, context: Context) -> Any:
        """Answers ModelInfer; a cancelled call stops between two images."""
        cancelled = threading.Event()
        try:
            return await self._infer(request, cancelled=cancelled)
        except RequestError as error:
            await context.abort(error.code, str(error))
        except Exception:
            _LOGGER.exception("inference of %s failed", request.model_name)
            await context.abort(grpc.StatusCode.INTERNAL, "inference failed")
        finally:
            cancelled.set()

    async def _infer(self, request: Any, *, cancelled: threading.Event) -> Any:
        model = self._find(request.model_name, version=request.model_version)
        inputs = _read_inputs(request, model.spec)
        outputs = _wanted_outputs(request, model.spec)
        if self._waiting >= self._limit:
            raise RequestError("Exceeds maximum queue size", code=grpc.StatusCode.UNAVAILABLE)
        self._waiting += 1
        try:
            arrays = await asyncio.get_running_loop().run_in_executor(
                self._pool,
                lambda: model.run(inputs, outputs=[tensor.name for tensor in outputs], cancelled=cancelled),
            )
        finally:
            self._waiting -= 1
        response = service_pb2.ModelInferResponse(
            model_name=model.spec.name, model_version=model.spec.version, id=request.id
        )
        for tensor, array in zip(outputs, arrays, strict=True):
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response

    def _find(self, name: str, *, version: str) -> OnnxModel:
        model = self._models.get(name)
        if model is None:
            raise RequestError(f"Request for unknown model: '{name}' is not found", code=grpc.StatusCode.NOT_FOUND)
        if version not in {"", model.spec.version}:
            raise RequestError(
                f"Request for unknown model: '{name}' version {version} is not found",
                code=grpc.StatusCode.NOT_FOUND,
            )
        return model


def _read_inputs(request: Any, spec: ModelSpec) -> dict[str, NDArray[np.generic]]:
    """Turns a request's tensors into arrays.

    Raises:
        RequestError: One is missing, unknown, or does not fit the model.
    """
    expected = {tensor.name: tensor for tensor in spec.inputs}
    for given in request.inputs:
        if given.name not in expected:
            raise RequestError(f"unexpected inference input '{given.name}' for model '{spec.name}'")
        if "shared_memory_region" in given.parameters:
            raise RequestError("shared memory is not supported by this server")
    if sorted(given.name for given in request.inputs) != sorted(expected):
        raise RequestError(
            f"expected {len(expected)} inputs but got {len(request.inputs)} inputs for model '{spec.name}'"
        )
    if len(request.raw_input_contents) != len(request.inputs):
        raise RequestError("tensors must be sent in raw_input_contents")
    arrays = {
        given.name: _read_tensor(given, content, tensor=expected[given.name], spec=spec)
        for given, content in zip(request.inputs, request.raw_input_contents, strict=True)
    }
    if len({len(array) for array in arrays.values()}) != 1:
        raise RequestError(f"the inputs of model '{spec.name}' differ in their batch size")
    return arrays


def _read_tensor(given: Any, content: bytes, *, tensor: TensorSpec, spec: ModelSpec) -> NDArray[np.generic]:
    shape = tuple(given.shape)
    if given.datatype != tensor.datatype:
        raise RequestError(
            f"inference input '{tensor.name}' data-type is '{given.datatype}', "
            f"but model '{spec.name}' expects '{tensor.datatype}'"
        )
    if shape[1:] != tensor.dims:
        raise RequestError(
            f"unexpected shape for input '{tensor.name}' for model '{spec.name}'. "
            f"Expected {[-1, *tensor.dims]}, got {list(shape)}"
        )
    if shape[0] > spec.max_batch_size:
        raise RequestError(f"inference request batch-size must be <= {spec.max_batch_size} for '{spec.name}'")
    if shape[0] < 1:
        raise RequestError(f"inference request batch-size must be >= 1 for '{spec.name}'")
    dtype: np.dtype[np.generic] = np.dtype(triton_types.triton_to_np_dtype(tensor.datatype))
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise RequestError(
            f"input byte size mismatch for input '{tensor.name}' for model '{spec.name}'. "
            f"Expected {math.prod(shape) * dtype.itemsize}, got {len(content)}"
        )
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def _wanted_outputs(request: Any, spec: ModelSpec) -> tuple[TensorSpec, ...]:
    """The outputs a request asks for; all of them if it names none.

    Raises:
        RequestError: The model has no such output.
    """
    by_name = {tensor.name: tensor for tensor in spec.outputs}
    for wanted in request.outputs:
        if wanted.name not in by_name:
            raise RequestError(f"unexpected inference output '{wanted.name}' for model '{spec.name}'")
    return tuple(by_name[wanted.name] for wanted in request.outputs) or spec.outputs
