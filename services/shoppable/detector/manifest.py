"""The models that the detector asks, as an operator declares them in `models.toml`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from shoppable.detector.errors import ConfigurationError
from shoppable.detector.toml_file import read_toml

Side = Annotated[int, Field(ge=8, le=4096)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class ModelSpec(BaseModel):
    """One model: what Triton does not tell about it.

    The input is uint8 [N, height, width, 3], RGB, letterboxed; the output is as `layout` says (`layouts`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Its name on Triton.
    name: Name
    # The names of its classes, in the order of their numbers.
    labels: tuple[Name, ...] = Field(min_length=1)
    # How its output is to be read.
    layout: Literal["candidates"]
    # Lowest score that is returned if the caller names none.
    min_score: Share
    # Highest overlap at which two boxes of one class both stay.
    nms_iou: Share = 0.6
    # Pixels; both or none. Where they are not given Triton must know them.
    input_width: Side | None = None
    input_height: Side | None = None
    input_name: Name = "images"
    output_name: Name = "candidates"

    @model_validator(mode="after")
    def _check(self) -> "ModelSpec":
        if (self.input_width is None) != (self.input_height is None):
            raise ValueError("input_width and input_height must be given together")
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise ValueError(f"labels must differ, and {', '.join(twice)} occurs twice")
        return self


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelSpec, ...] = Field(min_length=1)


def read_manifest(path: Path) -> Sequence[ModelSpec]:
    """Read the declared models, in the order of the file.

    Raises:
        ConfigurationError: The file is broken, or declares a model twice.
    """
    models = read_toml(path, TypeAdapter(_File)).models
    seen: set[str] = set()
    for index, model in enumerate(models):
        if model.name in seen:
            raise ConfigurationError(path, f"models.{index}.name", f"{model.name} is declared twice")
        seen.add(model.name)
    return models
