"""A stand-in for Triton, in this process, that fails, waits and answers as a test wants.

It speaks the inference protocol over real gRPC, so all of our client side is exercised. What a test can show with the
real server, it should: the fixture `triton_endpoint`.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

Array = npt.NDArray[Any]
# Takes a model's name and its input [N, ...]; returns its output [N, ...], float32, or raises TritonAnswerError.
Answer = Callable[[str, Array], Awaitable[Array]]


class TritonAnswerError(Exception):
    """What Triton answers in place of a result."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass
class FakeModel:
    """A model's shapes, without the batch dimension."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_name: str = "images"
    output_name: str = "candidates"


@dataclass
class FakeTriton:
    """The server's models, how it answers, and what it has seen. By default it answers zeros at once."""

    models: dict[str, FakeModel]
    answer: Answer | None = None
    started: Counter[str] = field(default_factory=Counter)  # inferences, by model
    in_work: Counter[str] = field(default_factory=Counter)
    most_in_work: Counter[str] = field(default_factory=Counter)
    cancelled: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Listen while inside; yields host:port."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(self), server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:
            yield f"127.0.0.1:{bound}"
        finally:
            await server.stop(None)

    async def infer(self, model: str, images: Array) -> Array:
        self.started[model] += 1
        self.in_work[model] += 1
        self.most_in_work[model] = max(self.most_in_work[model], self.in_work[model])
        try:
            if self.answer is not None:
                return await self.answer(model, images)
            return np.zeros((len(images), *self.models[model].output_shape), np.float32)
        except asyncio.CancelledError:
            self.cancelled[model] += 1
            raise
        finally:
            self.in_work[model] -= 1


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeTriton) -> None:
        self._fake = fake

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name in self._fake.models)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        model = await self._model(request.name, context)
        answer = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"], platform="fake")
        answer.inputs.add(name=model.input_name, datatype="UINT8", shape=[-1, *model.input_shape])
        answer.outputs.add(name=model.output_name, datatype="FP32", shape=[-1, *model.output_shape])
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        model = await self._model(request.model_name, context)
        shape = tuple(request.inputs[0].shape)
        images = np.frombuffer(request.raw_input_contents[0], np.uint8, math.prod(shape)).reshape(shape)
        try:
            output = await self._fake.infer(request.model_name, images)
        except TritonAnswerError as fault:
            await context.abort(fault.code, fault.text)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        answer.outputs.add(name=model.output_name, datatype="FP32", shape=output.shape)
        answer.raw_output_contents.append(np.ascontiguousarray(output, np.float32).tobytes())
        return answer

    async def _model(self, name: str, context: Any) -> FakeModel:
        model = self._fake.models.get(name)
        if model is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
            raise AssertionError("abort raises")
        return model
