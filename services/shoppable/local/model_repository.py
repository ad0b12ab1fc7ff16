"""Reads a Triton model repository: which models it holds and what goes in and out of them.

It reads; Triton checks. Only what this suite's repository uses is understood: one version a model, ONNX files,
a batch dimension in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

if TYPE_CHECKING:
    from pathlib import Path


class ModelRepositoryError(Exception):
    """The repository cannot be used; the text names the file."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output, without the batch dimension.

    Attributes:
        name: Its name in the ONNX file.
        datatype: As the inference protocol spells it: `UINT8`, `FP32`.
        dims: The sizes behind the batch dimension.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of a repository, under one of its configurations."""

    name: str
    version: str
    onnx_path: Path
    max_batch_size: int
    instances: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_model_repository(folder: Path, *, config_name: str) -> tuple[ModelSpec, ...]:
    """Reads every model in a repository.

    Args:
        folder: The repository.
        config_name: Which of a model's configurations, `configs/<config_name>.pbtxt`.

    Returns:
        The models in alphabetical order, at least one.

    Raises:
        ModelRepositoryError: The folder holds no model, or one that cannot be read.
    """
    if not folder.is_dir():
        raise ModelRepositoryError(f"there is no model repository at {folder}")
    models = tuple(_read_model(entry, config_name=config_name) for entry in sorted(folder.iterdir()) if entry.is_dir())
    if not models:
        raise ModelRepositoryError(f"the model repository {folder} holds no model")
    return models


def _read_model(folder: Path, *, config_name: str) -> ModelSpec:
    config_path = folder / "configs" / f"{config_name}.pbtxt"
    try:
        config = text_format.Parse(config_path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, text_format.ParseError) as error:
        raise ModelRepositoryError(f"cannot read the model configuration {config_path}: {error}") from error
    versions = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal()]
    if not versions:
        raise ModelRepositoryError(f"the model folder {folder} holds no version")
    version = max(versions, key=int)
    onnx_path = folder / version / (config.default_model_filename or "model.onnx")
    if not onnx_path.is_file():
        raise ModelRepositoryError(f"the model file {onnx_path} is missing")
    return ModelSpec(
        name=config.name or folder.name,
        version=version,
        onnx_path=onnx_path,
        max_batch_size=config.max_batch_size,
        instances=sum(max(1, group.count) for group in config.instance_group) or 1,
        inputs=tuple(_tensor(tensor) for tensor in config.input),
        outputs=tuple(_tensor(tensor) for tensor in config.output),
    )


def _tensor(tensor: model_config_pb2.ModelInput | model_config_pb2.ModelOutput) -> TensorSpec:
    kind = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return TensorSpec(
        name=tensor.name,
        datatype="BYTES" if kind == "STRING" else kind,
        dims=tuple(tensor.dims),
    )
