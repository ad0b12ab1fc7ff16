"""Makes detector_wearables: the SSD MobileNetV2 that finds shoes, cups and the like for MediaPipe Objectron.

Objectron looks for an object with this 2-D detector before it fits a 3-D box. The package carries it as a
TensorFlow Lite file inside a bundle of assets; its output is box offsets and class logits for each anchor.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tf2onnx  # type: ignore[import-not-found, import-untyped, unused-ignore] # only in this tool's environment
from onnx import TensorProto  # type: ignore[import-not-found, unused-ignore] # as above

from convert_models.anchors import decode_boxes
from convert_models.contract import DETECTOR_WEARABLES, INPUT_NAME
from convert_models.errors import ConversionError
from convert_models.float16 import store_weights_as_float16
from convert_models.graph import OPSET, GraphAssembly, free_batch, input_and_outputs, rank_candidates
from convert_models.sources import OBJECTRON, read_members

if TYPE_CHECKING:
    import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment

# A TensorFlow Lite file has its identifier at byte 4, after the offset of its root table.
TFLITE_IDENTIFIER = b"TFL3"
IDENTIFIER_OFFSET = 4
# 0..255 becomes -1..1, as for every MobileNetV2 of the TensorFlow Object Detection API.
HALF_RANGE = 127.5


def tflite_file(bundle: bytes) -> bytes:
    """The TensorFlow Lite file in the bundle: its last asset, after the label map."""
    if bundle.count(TFLITE_IDENTIFIER) != 1:
        raise ConversionError(
            f"the bundle holds {bundle.count(TFLITE_IDENTIFIER)} TensorFlow Lite markers, not 1: "
            f"use {OBJECTRON}, or cut the file out by the offsets in the package's assets loader"
        )
    return bundle[bundle.index(TFLITE_IDENTIFIER) - IDENTIFIER_OFFSET :]


def make(*, archive: Path | None, downloads: Path) -> onnx.ModelProto:
    """The finished detector. Arguments as for `sources.read_members`."""
    members = read_members(OBJECTRON, archive=archive, downloads=downloads)
    network = free_batch(_to_onnx(tflite_file(members["package/objectron_solution_packed_assets.data"])))
    image, (offsets, logits) = input_and_outputs(network, outputs=2)

    assembly = GraphAssembly()
    half_range = assembly.constant("normalise/half_range", HALF_RANGE, np.float32)
    one = assembly.constant("normalise/one", 1, np.float32)
    pixels = assembly.node("Cast", [INPUT_NAME], "normalise/pixels", to=TensorProto.FLOAT)
    scaled = assembly.node("Div", [pixels, half_range], "normalise/scaled")
    assembly.node("Sub", [scaled, one], image)
    assembly.network(network)

    boxes = decode_boxes(assembly, offsets, size_px=DETECTOR_WEARABLES.input_size_px)
    # Column 0 is the background.
    start = assembly.constant("decode/first_class", [1], np.int64)
    end = assembly.constant("decode/end_of_classes", [1 + DETECTOR_WEARABLES.classes], np.int64)
    axis = assembly.constant("decode/class_axis", [2], np.int64)
    class_logits = assembly.node("Slice", [logits, start, end, axis], "decode/class_logits")
    scores = assembly.node("Sigmoid", [class_logits], "decode/scores")
    rank_candidates(assembly, boxes, scores, DETECTOR_WEARABLES)
    return store_weights_as_float16(assembly.build(DETECTOR_WEARABLES))


def _to_onnx(content: bytes) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.tflite"
        path.write_bytes(content)
        model: onnx.ModelProto = tf2onnx.convert.from_tflite(str(path), opset=OPSET)[0]
    return model
