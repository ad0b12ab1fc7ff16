"""The substitute for Triton: the same answers, the same refusals, and the same persistence."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from service.inference_calls import MODELS, REPOSITORY, eventually, infer, noise
from shoppable.local import processes
from shoppable.local.inference import (
    InferenceServerError,
    InferenceServerSettings,
    ServerState,
    StateChange,
)
from shoppable.local.onnx_inference import OnnxInferenceServer
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import TritonRequirementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[OnnxInferenceServer]:
    async with await OnnxInferenceServer.start(repository=REPOSITORY, threads=2) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real_triton() -> AsyncIterator[TritonServer]:
    try:
        started = await TritonServer.start(repository=REPOSITORY, instances=1)
    except TritonRequirementError as error:
        pytest.skip(str(error))
    async with started as running:
        yield running


@pytest.mark.parametrize(("model", "side", "output", "shape"), MODELS)
async def test_answers_are_those_of_onnx_runtime(
    server: OnnxInferenceServer, model: str, side: int, output: str, shape: tuple[int, ...]
) -> None:
    images = noise(2, side)
    answer = await infer(server.grpc_endpoint, model, images, output=output)
    assert answer.shape == (2, *shape)
    session = onnxruntime.InferenceSession(REPOSITORY / model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run([output], {"images": images})
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("model", "side", "output", "shape"), MODELS)
async def test_answers_are_those_of_triton(
    server: OnnxInferenceServer,
    real_triton: TritonServer,
    model: str,
    side: int,
    output: str,
    shape: tuple[int, ...],
) -> None:
    images = noise(2, side)
    ours = await infer(server.grpc_endpoint, model, images)
    theirs = await infer(real_triton.grpc_endpoint, model, images)
    assert ours.shape == theirs.shape == (2, *shape), output
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


UNFIT = [
    pytest.param("unknown", noise(1, 8), None, id="unknown model"),
    pytest.param("embedder", noise(1, 64), None, id="wrong size"),
    pytest.param("embedder", noise(1, 260)[0], None, id="no batch dimension"),
    pytest.param("embedder", noise(9, 260), None, id="batch too large"),
    pytest.param("embedder", noise(1, 260)[:0], None, id="empty batch"),
    pytest.param("embedder", noise(1, 260).astype(np.float32), None, id="wrong type"),
    pytest.param("embedder", noise(1, 260), "unknown", id="unknown output"),
]


@pytest.mark.parametrize(("model", "images", "output"), UNFIT)
async def test_unfit_request_gets_the_status_that_triton_gives(
    server: OnnxInferenceServer,
    real_triton: TritonServer,
    model: str,
    images: NDArray[np.generic],
    output: str | None,
) -> None:
    statuses = []
    for endpoint in (server.grpc_endpoint, real_triton.grpc_endpoint):
        with pytest.raises(InferenceServerException) as caught:
            await infer(endpoint, model, images, output=output)
        statuses.append(caught.value.status())
    assert statuses[0] == statuses[1]
    assert statuses[0] in {"StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"}


async def test_metadata_and_readiness_match_triton(server: OnnxInferenceServer, real_triton: TritonServer) -> None:
    described = []
    for endpoint in (server.grpc_endpoint, real_triton.grpc_endpoint):
        async with triton.InferenceServerClient(endpoint) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("embedder")
            assert not await client.is_model_ready("embedder", "7")
            assert not await client.is_model_ready("unknown")
            with pytest.raises(InferenceServerException) as caught:
                await client.get_model_metadata("unknown")
            assert caught.value.status() == "StatusCode.NOT_FOUND"
            assert (await client.get_server_metadata()).name
            metadata = await client.get_model_metadata("detector_coco")
            metadata.ClearField("platform")
            described.append(metadata)
    assert described[0] == described[1]


async def test_wrong_size_in_bytes_is_refused(server: OnnxInferenceServer) -> None:
    tensor = triton.InferInput("images", [1, 260, 260, 3], "UINT8")
    tensor.set_data_from_numpy(noise(1, 260))
    tensor._raw_content = tensor._raw_content[:-1]
    async with triton.InferenceServerClient(server.grpc_endpoint) as client:
        with pytest.raises(InferenceServerException, match="byte size mismatch"):
            await client.infer("embedder", [tensor])


async def test_shared_memory_is_refused(server: OnnxInferenceServer) -> None:
    tensor = triton.InferInput("images", [1, 260, 260, 3], "UINT8")
    tensor.set_shared_memory("region", 260 * 260 * 3)
    async with triton.InferenceServerClient(server.grpc_endpoint) as client:
        with pytest.raises(InferenceServerException, match="not supported"):
            await client.infer("embedder", [tensor])


async def test_requests_beyond_the_queue_are_refused_and_the_others_answered() -> None:
    async with await OnnxInferenceServer.start(repository=REPOSITORY, threads=1) as running:
        results = await asyncio.gather(
            *(infer(running.grpc_endpoint, "embedder", noise(1, 260)) for _ in range(48)),
            return_exceptions=True,
        )
    refused = [result for result in results if isinstance(result, InferenceServerException)]
    assert {error.status() for error in refused} == {"StatusCode.UNAVAILABLE"}
    assert len([result for result in results if isinstance(result, np.ndarray)]) >= 32


async def test_server_recovers_at_the_same_address_when_it_is_killed() -> None:
    changes: list[StateChange] = []
    settings = InferenceServerSettings(watch_interval_s=0.05)
    async with await OnnxInferenceServer.start(
        repository=REPOSITORY, threads=1, settings=settings, on_change=changes.append
    ) as running:
        endpoint, old_pid = running.grpc_endpoint, running.server_pid
        assert old_pid is not None
        os.kill(old_pid, signal.SIGKILL)
        await eventually(lambda: len(changes) > 2 and changes[-1].state is ServerState.READY, what="ready again")
        assert running.grpc_endpoint == endpoint
        assert (await infer(endpoint, "embedder", noise(1, 260))).shape == (1, 1280)
        pid = running.server_pid
    assert pid is not None
    assert not processes.is_alive(pid)


async def test_start_fails_with_the_reason_when_a_model_is_broken(tmp_path: Path) -> None:
    (tmp_path / "embedder" / "1").mkdir(parents=True)
    (tmp_path / "embedder" / "1" / "model.onnx").write_bytes(b"not a model")
    (tmp_path / "embedder" / "configs").mkdir()
    config = (REPOSITORY / "embedder" / "configs" / "cpu.pbtxt").read_text("utf-8")
    (tmp_path / "embedder" / "configs" / "cpu.pbtxt").write_text(config)
    with pytest.raises(InferenceServerError, match=r"model\.onnx"):
        await OnnxInferenceServer.start(repository=tmp_path)
