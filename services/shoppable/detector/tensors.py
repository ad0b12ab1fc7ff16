"""How pictures and detections travel to a model and back: types, orders and batch dimensions.

`agree` compares what an operator declared with what Triton says, once a model is loaded; the `Wire` that it returns
then packs each picture and unpacks each answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from shoppable.detector.layouts import Layout, LayoutError, Tensor
from shoppable.detector.letterbox import Pixels
from shoppable.detector.manifest import InputSpec, ModelSpec
from shoppable.runtime.inference import ModelDescription, TensorInfo

Array = npt.NDArray[Any]
_DATATYPES: Mapping[str, str] = MappingProxyType({"uint8": "UINT8", "fp16": "FP16", "fp32": "FP32"})
_FLOATS: Mapping[str, type[np.floating[Any]]] = MappingProxyType({"fp16": np.float16, "fp32": np.float32})
_SIZE_DATATYPE = "INT64"
# More pictures in each inference than any model is exported for: a mistake in the declared order of dimensions.
_MOST_ROWS = 256


@dataclass(frozen=True, slots=True)
class Wire:
    """A model's tensors.

    Attributes:
        form: What the operator declared of the input.
        width: Of the input, in pixels.
        height: Of the input, in pixels.
        rows: Pictures that an inference takes, always; None if the model has no batch dimension.
        size_rows: The same of the second input, that tells the size.
        outputs: Outputs by name, and whether each has a batch dimension.
    """

    form: InputSpec
    width: int
    height: int
    rows: int | None
    size_rows: int | None
    outputs: Mapping[str, bool]

    def pack(self, tensor: Array) -> Mapping[str, Array]:
        """Return the inputs of an inference for one picture [1, ...], as `to_tensor` makes it."""
        inputs = {self.form.name: _rows(tensor, self.rows)}
        if self.form.size_name:
            inputs[self.form.size_name] = _rows(np.array([[self.width, self.height]], np.int64), self.size_rows)
        return inputs

    def unpack(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs of the one picture, without batch dimension.

        Raises:
            LayoutError: An output has no row for it.
        """
        single = {}
        for name, batched in self.outputs.items():
            if batched and not len(outputs[name]):
                raise LayoutError(f"{name}: the answer has no row for the picture")
            single[name] = outputs[name][0] if batched else outputs[name]
        return single


def to_tensor(canvas: Pixels, form: InputSpec) -> Array:
    """Turn a letterboxed picture [1, height, width, 3] into the model's input [1, ...], contiguous. Blocking."""
    pixels: Array = canvas if form.color == "rgb" else canvas[..., ::-1]
    if form.dtype != "uint8":
        # One product and one sum for each number, in single precision.
        scale = 1 / (form.divide_by * np.array(form.std))
        shift = -np.array(form.mean) / np.array(form.std)
        pixels = (pixels * scale.astype(np.float32) + shift.astype(np.float32)).astype(_FLOATS[form.dtype], copy=False)
    return np.ascontiguousarray(pixels if form.order == "nhwc" else pixels.transpose(0, 3, 1, 2))


def agree(spec: ModelSpec, layout: Layout, found: ModelDescription) -> Wire:
    """Compare what an operator declared with what Triton says.

    Raises:
        LayoutError: They differ; the text names the manifest and, for each difference, its field, what it declares and
            what was found.
    """
    form, wrong = spec.input, list[str]()
    height, width, rows = _agree_on_picture(form, found.inputs, wrong)
    size_rows = _agree_on_size(form, found.inputs, wrong)
    strangers = sorted(found.inputs.keys() - {form.name, form.size_name})
    if strangers:
        wrong.append(f"input.name: Triton wants more inputs, {strangers}")
    outputs: dict[str, bool] = {}
    if width and height:
        try:
            for tensor in layout.tensors(width=width, height=height):
                outputs[tensor.name] = _agree_on_output(tensor, found.outputs, wrong)
        except LayoutError as error:
            wrong.append(str(error))
    if wrong:
        raise LayoutError(f"{spec.file}: {'; '.join(wrong)}")
    return Wire(form, width, height, rows, size_rows, outputs)


def _rows(tensor: Array, rows: int | None) -> Array:
    """Give a tensor [1, ...] the rows that a model takes. More than one is work for nothing, but the model's demand."""
    if rows is None:
        return np.asarray(tensor[0])
    return tensor if rows == 1 else np.repeat(tensor, rows, axis=0)


def _agree_on_picture(
    form: InputSpec, found: Mapping[str, TensorInfo], wrong: list[str]
) -> tuple[int, int, int | None]:
    """Return height, width and rows of the input, zeros where nobody knows; note what is wrong."""
    tensor = found.get(form.name)
    if tensor is None:
        wrong.append(f"input.name: declared {form.name!r}, Triton has {sorted(found)}")
        return 0, 0, None
    datatype = _DATATYPES[form.dtype]
    if tensor.datatype != datatype:
        wrong.append(f"input.dtype: declared {form.dtype}, found {tensor.datatype}")
    declared = (form.height, form.width, 3) if form.order == "nhwc" else (3, form.height, form.width)
    shape, rows = _without_batch(tensor.shape, len(declared), "input.name", form.name, wrong)
    if shape is None:
        return 0, 0, None
    channels = declared.index(3)
    if shape[channels] not in (3, -1):
        wrong.append(f"input.order: declared {form.order}, found the shape {list(tensor.shape)}")
        return 0, 0, None
    sides = []
    for side, wanted, has in zip(
        ("height", "width"), (form.height, form.width), (size for at, size in enumerate(shape) if at != channels),
        strict=True,
    ):  # fmt: skip
        if wanted is None and has < 0:
            wrong.append(f"input.{side}: not declared, and free on Triton: declare it")
        if wanted is not None and has not in (wanted, -1):
            wrong.append(f"input.{side}: declared {wanted}, found {has}")
        sides.append(wanted or max(has, 0))
    return sides[0], sides[1], rows


def _agree_on_size(form: InputSpec, found: Mapping[str, TensorInfo], wrong: list[str]) -> int | None:
    if not form.size_name:
        return None
    tensor = found.get(form.size_name)
    if tensor is None:
        wrong.append(f"input.size_name: declared {form.size_name!r}, Triton has {sorted(found)}")
        return None
    if tensor.datatype != _SIZE_DATATYPE:
        wrong.append(f"input.size_name: must be {_SIZE_DATATYPE}, found {tensor.datatype}")
    shape, rows = _without_batch(tensor.shape, 1, "input.size_name", form.size_name, wrong)
    if shape is not None and shape[0] not in (2, -1):
        wrong.append(f"input.size_name: must be [width, height], found the shape {list(tensor.shape)}")
    return rows


def _agree_on_output(tensor: Tensor, found: Mapping[str, TensorInfo], wrong: list[str]) -> bool:
    """Return whether the output has a batch dimension; note what is wrong."""
    has = found.get(tensor.name)
    if has is None:
        wrong.append(f"{tensor.field}: declared {tensor.name!r}, Triton has {sorted(found)}")
        return False
    shape, rows = _without_batch(has.shape, len(tensor.shape), tensor.field, tensor.name, wrong)
    if shape is not None and any(
        wanted is not None and size not in (wanted, -1) for wanted, size in zip(tensor.shape, shape, strict=True)
    ):
        wanted_shape = ["any" if size is None else size for size in tensor.shape]
        wrong.append(f"{tensor.field}: the layout and the labels want {wanted_shape}, found {list(shape)}")
    return rows is not None


def _without_batch(
    shape: Sequence[int], rank: int, field: str, name: str, wrong: list[str]
) -> tuple[tuple[int, ...] | None, int | None]:
    """Return a tensor's shape without its batch dimension, if it has one, and the rows of that dimension.

    A free batch dimension takes one picture: what batches there are Triton makes.
    """
    if len(shape) == rank:
        return tuple(shape), None
    if len(shape) == rank + 1 and (shape[0] == -1 or 1 <= shape[0] <= _MOST_ROWS):
        return tuple(shape[1:]), max(shape[0], 1)
    wrong.append(f"{field}: {name!r} must have {rank} dimensions and perhaps a batch before, found {list(shape)}")
    return None, None
