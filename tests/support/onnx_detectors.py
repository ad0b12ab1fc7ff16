"""Small ONNX detectors of each family, with outputs that are known from the picture.

Each "sees" four things at fixed places of its input, and is as sure of them as the picture is red, green and blue at
one place, and grey in the last corner. So a test that knows the picture knows the scores, and a wrong order of
channels, a wrong normalisation or a wrong margin shows in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, checker, helper, numpy_helper

Array = npt.NDArray[Any]
LABELS = ("red", "green", "blue", "corner")
SIDE = 64  # of the input, in pixels
# Left, top, right, bottom in pixels of the input; inside the picture wherever it lies.
BOXES = np.array([(8, 18, 16, 30), (24, 20, 36, 28), (40, 18, 56, 26), (4, 22, 12, 31)], np.float32)
STRIDES = (8, 16, 32)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Columns of the features that outputs are made of, for each thing.
SCORE, LOGIT, LIKELY, UNLIKELY = range(4)
_OPSET, _IR = 17, 9
_TYPES = {"uint8": TensorProto.UINT8, "fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}


@dataclass(frozen=True)
class Output:
    """A tensor for one picture, linear in the features.

    Attributes:
        name: In the ONNX file.
        base: Its values where the features are 0.
        slopes: [4 things, 4 features, *shape of base].
        scaled_to_size: Whether its last dimension, a box, is multiplied with the size that the second input tells.
        integer: Whether it is INT64.
    """

    name: str
    base: Array
    slopes: Array
    scaled_to_size: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Detector:
    """A model, and what a manifest says of it.

    Attributes:
        name: On Triton.
        outputs: What it puts out.
        manifest: The tables [input] and [output] and what stands before them, as TOML.
        dtype: Of the input.
        order: Of the input's dimensions.
        color: Of the input's channels.
        normalised: What the input's values are.
        rows: "free": a batch dimension that Triton fills; a number: one of this size, and Triton does not batch;
            "none": no batch dimension.
        free_size: Whether it takes pictures of any size.
    """

    name: str
    outputs: Sequence[Output]
    manifest: str
    dtype: Literal["uint8", "fp16", "fp32"] = "uint8"
    order: Literal["nhwc", "nchw"] = "nhwc"
    color: Literal["rgb", "bgr"] = "rgb"
    normalised: Literal["bytes", "shares", "imagenet"] = "bytes"
    rows: Literal["free", "none"] | int = "free"
    free_size: bool = False
    size_name: str = ""

    def write(self, repository: Path) -> None:
        """Write the model's folder: ONNX file, Triton's configuration, manifest."""
        folder = repository / self.name
        (folder / "1").mkdir(parents=True)
        (folder / "configs").mkdir()
        (folder / "1" / "model.onnx").write_bytes(_Graph(self).model())
        (folder / "configs" / "cpu.pbtxt").write_text(self._configuration())
        (folder / "shoppable.toml").write_text(self.manifest_text())

    def manifest_text(self) -> str:
        """The whole manifest."""
        labels = ", ".join(f'"{label}"' for label in LABELS)
        sorts = "\n".join(f'{label} = "toys"' for label in LABELS)
        return f"labels = [{labels}]\nmin_score = 0.001\n{self.manifest}\n[taxonomy]\n{sorts}\n"

    def input_shape(self) -> tuple[int, ...]:
        """Without the batch dimension; -1 is free."""
        side = -1 if self.free_size else SIDE
        return (side, side, 3) if self.order == "nhwc" else (3, side, side)

    def batch(self) -> tuple[int, ...]:
        """The batch dimension as Triton's configuration has it: nothing where Triton fills it or there is none."""
        return (self.rows,) if isinstance(self.rows, int) else ()

    def _configuration(self) -> str:
        def tensor(name: str, kind: str, shape: Sequence[int]) -> str:
            dims = ", ".join(map(str, (*self.batch(), *shape)))
            return f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] }}'

        inputs = [tensor("images", self.dtype.upper(), self.input_shape())]
        inputs += [tensor(self.size_name, "INT64", (2,))] if self.size_name else []
        outputs = [tensor(one.name, "INT64" if one.integer else "FP32", one.base.shape) for one in self.outputs]
        return (
            f'name: "{self.name}"\nbackend: "onnxruntime_python"\ndefault_model_filename: "model.onnx"\n'
            f"max_batch_size: {8 if self.rows == 'free' else 0}\n"
            f"input [ {', '.join(inputs)} ]\noutput [ {', '.join(outputs)} ]\n"
            "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        )


def constant(name: str, values: Array, *, scaled_to_size: bool = False, integer: bool = False) -> Output:
    """An output that does not depend on the picture."""
    return Output(name, values, np.zeros((4, 4, *values.shape), np.float32), scaled_to_size, integer)


@dataclass
class _Graph:
    """Builds the ONNX file node by node."""

    detector: Detector
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def model(self) -> bytes:
        detector = self.detector
        outputs = [self._output(self._features(), one) for one in detector.outputs]
        batch = {"free": ("N",), "none": ()}.get(detector.rows, (detector.rows,))  # type: ignore[arg-type]
        shape = [*batch, *("side" if size < 0 else size for size in detector.input_shape())]
        inputs = [helper.make_tensor_value_info("images", _TYPES[detector.dtype], shape)]
        if detector.size_name:
            inputs.append(helper.make_tensor_value_info(detector.size_name, TensorProto.INT64, [*batch, 2]))
        graph = helper.make_graph(self.nodes, detector.name, inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        checker.check_model(model, full_check=True)
        written: bytes = model.SerializeToString()
        return written

    def _features(self) -> str:
        """[N, 16]: for each thing its score, logit, and the logarithms of the score and of its rest."""
        score = self._add("Clip", self._scores(), self._weight(0.01), self._weight(0.99))
        rest = self._add("Sub", self._weight(1.0), score)
        likely, unlikely = self._add("Log", score), self._add("Log", rest)
        logit = self._add("Sub", likely, unlikely)
        stacked = [self._add("Unsqueeze", one, self._weight([2])) for one in (score, logit, likely, unlikely)]
        return self._add("Reshape", self._add("Concat", *stacked, axis=2), self._weight([-1, 16]))

    def _scores(self) -> str:
        """[N, 4]: red, green and blue of one place, the first channel of the last corner, each 0..1."""
        detector = self.detector
        pixels = self._add("Cast", "images", to=TensorProto.FLOAT)
        if detector.rows == "none":
            pixels = self._add("Unsqueeze", pixels, self._weight([0]))
        if detector.order == "nhwc":
            pixels = self._add("Transpose", pixels, perm=[0, 3, 1, 2])
        if detector.normalised == "bytes":
            pixels = self._add("Div", pixels, self._weight(255.0))
        if detector.normalised == "imagenet":
            mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
            pixels = self._add("Add", self._add("Mul", pixels, self._weight(std)), self._weight(mean))
        sides = self._add("Slice", self._add("Shape", pixels), self._weight([2]), self._weight([4]))
        # Three eighths of the way: inside the picture whether it lies in the middle or at the top.
        places = self._add("Div", self._add("Mul", sides, self._weight([3])), self._weight([8]))
        place = pixels
        for axis in range(2):
            at = self._add("Gather", places, self._weight(axis), axis=0)
            place = self._add("Gather", place, at, axis=2)
        if detector.color == "bgr":
            place = self._add("Gather", place, self._weight([2, 1, 0]), axis=1)
        corner = self._add("Gather", self._add("Gather", pixels, self._weight(-1), axis=2), self._weight(-1), axis=2)
        return self._add("Concat", place, self._add("Gather", corner, self._weight([0]), axis=1), axis=1)

    def _output(self, features: str, output: Output) -> Any:
        slopes = output.slopes.reshape(16, -1).astype(np.float32)
        base = output.base.astype(np.float32).reshape(1, -1)
        flat = self._add("Add", self._add("MatMul", features, self._weight(slopes)), self._weight(base))
        shape = list(output.base.shape)
        rows = [] if self.detector.rows == "none" else [-1]
        values = self._add("Reshape", flat, self._weight([*rows, *shape]))
        if output.scaled_to_size:
            size = self._add("Cast", self.detector.size_name, to=TensorProto.FLOAT)
            corners = self._add("Concat", size, size, axis=1)
            values = self._add("Mul", values, self._add("Unsqueeze", corners, self._weight([1])))
        kind = TensorProto.INT64 if output.integer else TensorProto.FLOAT
        self.nodes.append(helper.make_node("Cast", [values], [output.name], to=kind))
        batch = {"free": ("N",), "none": ()}.get(self.detector.rows, (self.detector.rows,))  # type: ignore[arg-type]
        return helper.make_tensor_value_info(output.name, kind, [*batch, *shape])

    def _weight(self, value: Any) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        self.weights.append(numpy_helper.from_array(array, f"weight{len(self.weights)}"))
        return f"weight{len(self.weights) - 1}"

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"value{len(self.nodes)}"], **attributes))
        return f"value{len(self.nodes) - 1}"
