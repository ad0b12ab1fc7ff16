from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from shoppable.local.model_repository import ModelRepositoryError, read_model_repository

REPOSITORY = Path(__file__).parents[2] / "deploy" / "triton" / "models"
MODELS = ["detector_coco", "detector_wearables", "embedder"]


def _read(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def _tensors(tensors: object) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in tensors}  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("config_file", ["config.pbtxt", "configs/cpu.pbtxt", "configs/gpu-python.pbtxt"])
def test_config_agrees_with_the_onnx_file(model: str, config_file: str) -> None:
    config = _read(REPOSITORY / model / config_file)
    assert config.name == model
    session = onnxruntime.InferenceSession(
        REPOSITORY / model / "1" / config.default_model_filename, providers=["CPUExecutionProvider"]
    )
    types = {
        "tensor(uint8)": model_config_pb2.DataType.TYPE_UINT8,
        "tensor(float)": model_config_pb2.DataType.TYPE_FP32,
    }
    for tensors, declared in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert _tensors(tensors) == {t.name: (types[t.type], tuple(t.shape[1:])) for t in declared}


@pytest.mark.parametrize("model", MODELS)
def test_gpu_config_bounds_its_queue_and_its_engine_covers_every_batch(model: str) -> None:
    config = _read(REPOSITORY / model / "config.pbtxt")
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size > 0
    assert policy.default_timeout_microseconds > 0
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    dims = "x".join(str(size) for size in config.input[0].dims)
    name = config.input[0].name
    assert accelerator.parameters["trt_profile_min_shapes"] == f"{name}:1x{dims}"
    assert accelerator.parameters["trt_profile_max_shapes"] == f"{name}:{config.max_batch_size}x{dims}"
    assert {warmup.batch_size for warmup in config.model_warmup} == {1, config.max_batch_size}
    preferred = config.dynamic_batching.preferred_batch_size
    assert accelerator.parameters["trt_profile_opt_shapes"] == f"{name}:{preferred[0]}x{dims}"
    assert list(preferred)[-1] == config.max_batch_size


@pytest.mark.parametrize("model", MODELS)
def test_both_configurations_for_a_gpu_batch_and_warm_up_alike(model: str) -> None:
    full = _read(REPOSITORY / model / "config.pbtxt")
    python = _read(REPOSITORY / model / "configs" / "gpu-python.pbtxt")
    assert python.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert python.max_batch_size == full.max_batch_size
    assert python.dynamic_batching == full.dynamic_batching
    assert list(python.model_warmup) == list(full.model_warmup)
    assert python.parameters["images_per_run"].string_value == str(python.max_batch_size)


@pytest.mark.parametrize("model", MODELS)
def test_cpu_config_does_not_batch_across_requests(model: str) -> None:
    config = _read(REPOSITORY / model / "configs" / "cpu.pbtxt")
    assert not config.HasField("dynamic_batching")
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


def test_read_model_repository_describes_our_models() -> None:
    models = {model.name: model for model in read_model_repository(REPOSITORY, config_name="cpu")}
    assert list(models) == MODELS
    detector = models["detector_coco"]
    assert (detector.version, detector.instances, detector.max_batch_size) == ("1", 2, 8)
    assert detector.inputs[0].datatype == "UINT8"
    assert detector.inputs[0].dims == (512, 512, 3)
    assert detector.outputs[0].datatype == "FP32"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "holds no model", id="empty"),
        pytest.param({"a/1/model.onnx": ""}, "configs/cpu.pbtxt", id="no configuration"),
        pytest.param({"a/configs/cpu.pbtxt": "no: 1"}, "cannot read", id="unknown field"),
        pytest.param({"a/configs/cpu.pbtxt": 'name: "a"'}, "holds no version", id="no version"),
        pytest.param({"a/configs/cpu.pbtxt": 'name: "a"', "a/1/other": ""}, "is missing", id="no file"),
    ],
)
def test_read_model_repository_names_what_is_wrong(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelRepositoryError, match=message):
        read_model_repository(tmp_path, config_name="cpu")


def test_read_model_repository_fails_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelRepositoryError, match="no model repository"):
        read_model_repository(tmp_path / "absent", config_name="cpu")
