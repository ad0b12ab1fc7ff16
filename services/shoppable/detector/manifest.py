"""What an operator declares of a detection model: a `shoppable.toml` beside the model in Triton's repository.

ModelSpec is the file, InputSpec its table [input], and one of the classes of outputs, by `layout`, its table [output].
The README has an example.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter, model_validator

from shoppable.detector.errors import ConfigurationError, Mistake
from shoppable.detector.label_table import LabelTable
from shoppable.detector.toml_file import read_toml

FILE_NAME = "shoppable.toml"
_MOST_CLASSES = 100_000

Side = Annotated[int, Field(ge=8, le=4096)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassNumber = Annotated[int, Field(ge=0, lt=_MOST_CLASSES)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Table):
    """How a picture becomes the model's input. What Triton tells too is compared with it."""

    # Of the tensor on Triton.
    name: Name = "images"
    # Pixels; both or none. Where they are not given Triton must know them.
    width: Side | None = None
    height: Side | None = None
    dtype: Literal["uint8", "fp16", "fp32"] = "uint8"
    # Of the dimensions, the batch left aside: [height, width, 3] or [3, height, width].
    order: Literal["nhwc", "nchw"] = "nhwc"
    # Which channel is the first.
    color: Literal["rgb", "bgr"] = "rgb"
    # letterbox: the aspect is kept, and the rest filled with the grey value `padding`, 0..255.
    fit: Literal["letterbox", "stretch"] = "letterbox"
    align: Literal["center", "top-left"] = "center"
    padding: Annotated[int, Field(ge=0, le=255)] = 0
    # Of fp16 and fp32: (pixel / divide_by - mean) / std, mean and std channel by channel in the order of `color`.
    divide_by: Positive = 255.0
    mean: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    # A second input that some exports have: INT64 [width, height], to which their boxes are scaled. They are told the
    # input's own size.
    size_name: Name | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height must be given together")
        if self.fit == "stretch" and {"align", "padding"} & self.model_fields_set:
            raise ValueError("align and padding have no meaning with fit = 'stretch'")
        if self.dtype == "uint8" and {"divide_by", "mean", "std"} & self.model_fields_set:
            raise ValueError("divide_by, mean and std have no meaning with dtype = 'uint8'")
        return self


class _BoxTable(_Table):
    # corners: left, top, right, bottom; center: x and y of the middle, width, height.
    boxes: Literal["corners", "center"] = "corners"
    # pixels of the input, or shares of its width and height, 0..1.
    units: Literal["pixels", "shares"] = "pixels"


class CandidatesOutput(_BoxTable):
    """One tensor [K, 6]: the box, score, class number."""

    layout: Literal["candidates"]
    name: Name = "candidates"


class DetectionsOutput(_BoxTable):
    """Three tensors: class numbers [K], boxes [K, 4], scores [K]. Exports of RT-DETR and D-FINE, torchvision's."""

    layout: Literal["detections"]
    labels_name: Name = "labels"
    boxes_name: Name = "boxes"
    scores_name: Name = "scores"


class DetrOutput(_Table):
    """Two tensors: logits [Q, classes] and boxes [Q, 4], middles and sizes as shares. DETR, RT-DETR, D-FINE as trained.

    With softmax a last class of "nothing" follows those that the labels name.
    """

    layout: Literal["detr"]
    logits_name: Name = "logits"
    boxes_name: Name = "pred_boxes"
    scores: Literal["sigmoid", "softmax"] = "sigmoid"


class YoloV8Output(_Table):
    """One tensor [4 + classes, P]: middles and sizes in pixels, then scores. YOLOv8 and YOLO11."""

    layout: Literal["yolov8"]
    name: Name = "output0"


class YoloV5Output(_Table):
    """One tensor [P, 5 + classes]: middles and sizes in pixels, objectness, scores. YOLOv5 and YOLOv7."""

    layout: Literal["yolov5"]
    name: Name = "output0"


class YoloxOutput(_Table):
    """One tensor [P, 5 + classes] as YOLOv5's, with boxes relative to the cells of grids of these strides."""

    layout: Literal["yolox"]
    name: Name = "output"
    strides: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((8, 16, 32), min_length=1, max_length=8)


OutputSpec = CandidatesOutput | DetectionsOutput | DetrOutput | YoloV8Output | YoloV5Output | YoloxOutput


class ModelSpec(_Table):
    """One model: what Triton does not tell about it."""

    # Its name on Triton.
    name: Name
    # The names of its classes.
    labels: tuple[Name, ...] = Field(min_length=1, max_length=_MOST_CLASSES)
    # The number of the first label, those of the others follow: 1 where 0 is the background. Or the number of each.
    first_class: ClassNumber = 0
    class_numbers: tuple[ClassNumber, ...] | None = None
    # Lowest score that is returned if the caller names none.
    min_score: Share
    # Whether to keep one box of several around one thing: yes, unless the model does so itself.
    nms: bool = True
    # Highest overlap at which two boxes of one class both stay.
    nms_iou: Share = 0.6
    input: InputSpec = InputSpec()
    output: Annotated[OutputSpec, Field(discriminator="layout")]
    # Label -> what it is to a shop, as a line of the taxonomy's [labels.MODEL]; None: the taxonomy file says it.
    taxonomy: LabelTable | None = None
    _file: Path = PrivateAttr(default=Path(FILE_NAME))

    @property
    def file(self) -> Path:
        """Where this was declared: errors name it."""
        return self._file

    @property
    def numbers(self) -> Sequence[int]:
        """The class number of each label."""
        return self.class_numbers or range(self.first_class, self.first_class + len(self.labels))

    @model_validator(mode="after")
    def _check(self) -> Self:
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise ValueError(f"labels must differ, and {', '.join(twice)} occurs twice")
        if self.class_numbers is None:
            return self
        if "first_class" in self.model_fields_set:
            raise ValueError("first_class and class_numbers exclude each other")
        if len(self.class_numbers) != len(self.labels):
            raise ValueError(f"class_numbers are {len(self.class_numbers)}, and labels {len(self.labels)}")
        if len(set(self.class_numbers)) != len(self.class_numbers):
            raise ValueError("class_numbers must differ")
        return self


def read_manifests(paths: Sequence[Path]) -> Sequence[ModelSpec]:
    """Read the declared models.

    Args:
        paths: Manifests, and folders whose subfolders hold them (`*/shoppable.toml`), such as Triton's repository.

    Returns:
        The models in the order of the paths, those of a folder in alphabetical order.

    Raises:
        ConfigurationError: A file is broken, a folder holds none, or a model is declared twice. All mistakes of all
            files at once.
    """
    mistakes: list[Mistake] = []
    models: dict[str, ModelSpec] = {}
    for path in paths:
        files = sorted(path.glob(f"*/{FILE_NAME}")) if path.is_dir() else [path]
        if not files:
            mistakes.append(Mistake(path, "", f"holds no model with a {FILE_NAME}"))
        for file in files:
            try:
                model = read_toml(file, TypeAdapter(ModelSpec), defaults={"name": file.resolve().parent.name})
            except ConfigurationError as error:
                mistakes.extend(error.mistakes)
                continue
            if model.name in models:
                mistakes.append(Mistake(file, "name", f"{model.name} is declared in {models[model.name].file} too"))
            model._file = file
            models[model.name] = model
    if mistakes:
        raise ConfigurationError(mistakes)
    return list(models.values())
