"""The models' other configurations, as far as a machine without a GPU can take them, and batches across requests."""

import asyncio
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tritonclient.grpc.aio as triton

from service.inference_calls import REPOSITORY, infer, noise
from shoppable.local.inference import InferenceServerError
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton

BACKEND = REPOSITORY.parent / "backends" / "onnxruntime_python" / "model.py"


@pytest.fixture(autouse=True)
def _triton_runs() -> None:
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))


class FullTriton(TritonServer):
    """Reads `config.pbtxt`, as NVIDIA's image does."""

    def _command(self) -> Sequence[str]:
        return [word for word in super()._command() if not word.startswith("--model-config-name")]


async def test_configuration_for_the_full_image_lacks_nothing_but_its_backend(tmp_path: Path) -> None:
    """Triton has read every field by then: of an unknown one, or of a wrong type, it complains first."""
    log = tmp_path / "log"
    with pytest.raises(InferenceServerError):
        await FullTriton.start(repository=REPOSITORY, log_path=log)
    for model in ("detector_coco", "detector_wearables", "embedder"):
        said = f"failed to load '{model}' version 1: Invalid argument: unable to find backend library for backend"
        assert f"{said} 'onnxruntime'" in log.read_text()


async def test_field_that_triton_does_not_know_is_what_it_complains_of_first(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embedder"
    folder.mkdir(parents=True)
    (folder / "1").symlink_to(REPOSITORY / "embedder" / "1")
    (folder / "configs").symlink_to(REPOSITORY / "embedder" / "configs")
    text = (REPOSITORY / "embedder" / "config.pbtxt").read_text("utf-8")
    (folder / "config.pbtxt").write_text(text.replace("timeout_action", "time_out_action"))
    with pytest.raises(InferenceServerError, match="failed to read text proto"):
        await FullTriton.start(repository=tmp_path / "models", backends=REPOSITORY.parent / "backends")


async def test_gpu_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InferenceServerError, match="has kind KIND_GPU but no GPUs are available"):
        await TritonServer.start(repository=REPOSITORY, config_name="gpu-python", log_path=tmp_path / "log")


async def test_requests_that_triton_batches_get_each_its_own_answer(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embedder"
    (folder / "configs").mkdir(parents=True)
    (folder / "1").symlink_to(REPOSITORY / "embedder" / "1")
    text = (REPOSITORY / "embedder" / "configs" / "cpu.pbtxt").read_text("utf-8")
    text = text.replace('value { string_value: "1" } }\n', 'value { string_value: "4" } }\n')
    text += "dynamic_batching { max_queue_delay_microseconds: 200000 }\n"
    (folder / "configs" / "cpu.pbtxt").write_text(text)
    images = [noise(7, 260)[:1], noise(7, 260)[1:4], noise(7, 260)[4:5], noise(7, 260)[5:7]]
    async with await TritonServer.start(
        repository=tmp_path / "models", backends=REPOSITORY.parent / "backends", instances=1, model_control=True
    ) as server:
        singles = [await infer(server.grpc_endpoint, "embedder", image) for image in images]
        together = await asyncio.gather(*(infer(server.grpc_endpoint, "embedder", image) for image in images))
        async with triton.InferenceServerClient(server.grpc_endpoint) as client:
            (told,) = (await client.get_inference_statistics("embedder")).model_stats
    assert told.execution_count < told.inference_count - 4
    for ours, alone in zip(together, singles, strict=True):
        np.testing.assert_allclose(ours, alone, atol=2e-4)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The backend's module; the one that Triton adds to it is not needed for what is tested here."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    spec = importlib.util.spec_from_file_location("onnxruntime_python_backend", BACKEND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_provider_is_that_of_the_instance(backend: ModuleType) -> None:
    both = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert backend.providers_of("CPU", device=0, available=both) == ["CPUExecutionProvider"]
    first, second = backend.providers_of("GPU", device=3, available=both)
    assert (first[0], first[1]["device_id"], second) == ("CUDAExecutionProvider", 3, "CPUExecutionProvider")
    with pytest.raises(RuntimeError, match="install onnxruntime-gpu"):
        backend.providers_of("GPU", device=0, available=["CPUExecutionProvider"])


def test_falling_back_to_the_cpu_is_an_error(backend: ModuleType) -> None:
    wanted = backend.providers_of("GPU", device=0, available=["CUDAExecutionProvider"])
    backend._check_runs_on(wanted, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(RuntimeError, match="could not start CUDAExecutionProvider"):
        backend._check_runs_on(wanted, ["CPUExecutionProvider"])
