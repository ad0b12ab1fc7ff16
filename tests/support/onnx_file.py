"""Writes tiny ONNX models by hand: how red a picture is, 0..1; an embedder. It saves the tests a package of 20 MB.

Fields are numbered as in onnx.proto; only what ONNX Runtime needs is written.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

_UINT8, _FLOAT, _INT64 = 2, 1, 7  # TensorProto.DataType
_CONFIG = """name: "{name}"
backend: "onnxruntime_python"
max_batch_size: 8
input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ 32, 48, 3 ] }} ]
output [ {{ name: "score" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def write_redness_repository(folder: Path, *, name: str) -> Path:
    """Write a model repository with the one model, and return its folder."""
    model = folder / name
    (model / "1").mkdir(parents=True)
    (model / "configs").mkdir()
    (model / "1" / "model.onnx").write_bytes(_redness())
    for config in (model / "config.pbtxt", model / "configs" / "cpu.pbtxt"):
        config.write_text(_CONFIG.format(name=name))
    return folder


_EMBEDDER_CONFIG = """name: "{name}"
backend: "onnxruntime_python"
max_batch_size: 8
input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ 260, 260, 3 ] }} ]
output [ {{ name: "embeddings" data_type: TYPE_FP32 dims: [ {size} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def write_embedder(folder: Path, *, name: str, blocks: int) -> None:
    """Write an embedder into a model repository: the mean colours of blocks x blocks parts, 3 * blocks² numbers."""
    model = folder / name
    (model / "1").mkdir(parents=True)
    (model / "configs").mkdir()
    (model / "1" / "model.onnx").write_bytes(_blocks_embedder(blocks))
    for config in (model / "config.pbtxt", model / "configs" / "cpu.pbtxt"):
        config.write_text(_EMBEDDER_CONFIG.format(name=name, size=3 * blocks**2))


def _blocks_embedder(blocks: int) -> bytes:
    """Cast, cut into blocks, mean over each, flatten, and keep away from zero."""
    size = 3 * blocks**2
    nodes = [
        _node("Cast", ["images"], ["real"], _attribute("to", 2, _varint_field(3, _FLOAT))),
        _node("Reshape", ["real", "cut"], ["parts"]),
        _node(
            "ReduceMean", ["parts"], ["means"], _ints("axes", [2, 4]), _attribute("keepdims", 2, _varint_field(3, 0))
        ),
        _node("Reshape", ["means", "flat"], ["values"]),
        _node("Add", ["values", "one"], ["embeddings"]),
    ]
    side = 260 // blocks
    initial = [
        _shape("cut", [-1, blocks, side, blocks, side, 3]),
        _shape("flat", [-1, size]),
        _tensor("one", [], [1.0]),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"blocks")
    graph += b"".join(_field(5, tensor) for tensor in initial)
    graph += _field(11, _value("images", _UINT8, [None, 260, 260, 3]))
    graph += _field(12, _value("embeddings", _FLOAT, [None, size]))
    return _varint_field(1, 8) + _field(7, graph) + _field(8, _varint_field(2, 13))


def _shape(name: str, sizes: Sequence[int]) -> bytes:
    data = struct.pack(f"<{len(sizes)}q", *sizes)
    return _varint_field(1, len(sizes)) + _varint_field(2, _INT64) + _field(8, name.encode()) + _field(9, data)


def _redness() -> bytes:
    """Cast, mean over the picture, red less half of green and blue, clipped to 0..1."""
    nodes = [
        _node("Cast", ["images"], ["real"], _attribute("to", 2, _varint_field(3, _FLOAT))),
        _node("ReduceMean", ["real"], ["mean"], _ints("axes", [1, 2]), _attribute("keepdims", 2, _varint_field(3, 0))),
        _node("MatMul", ["mean", "weights"], ["raw"]),
        _node("Clip", ["raw", "zero", "one"], ["score"]),
    ]
    initial = [
        _tensor("weights", [3, 1], [1 / 255, -0.5 / 255, -0.5 / 255]),
        _tensor("zero", [], [0.0]),
        _tensor("one", [], [1.0]),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"redness")
    graph += b"".join(_field(5, tensor) for tensor in initial)
    graph += _field(11, _value("images", _UINT8, [None, 32, 48, 3])) + _field(12, _value("score", _FLOAT, [None, 1]))
    return _varint_field(1, 8) + _field(7, graph) + _field(8, _varint_field(2, 13))


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs] + [_field(2, name.encode()) for name in outputs]
    return b"".join(parts) + _field(4, kind.encode()) + b"".join(_field(5, one) for one in attributes)


def _attribute(name: str, kind: int, value: bytes) -> bytes:
    return _field(1, name.encode()) + value + _varint_field(20, kind)


def _ints(name: str, values: Sequence[int]) -> bytes:
    return _attribute(name, 7, b"".join(_varint_field(8, value) for value in values))


def _tensor(name: str, dims: Sequence[int], values: Sequence[float]) -> bytes:
    shape = b"".join(_varint_field(1, size) for size in dims)
    data = struct.pack(f"<{len(values)}f", *values)
    return shape + _varint_field(2, _FLOAT) + _field(8, name.encode()) + _field(9, data)


def _value(name: str, kind: int, dims: Sequence[int | None]) -> bytes:
    shape = b"".join(_field(1, _field(2, b"N") if size is None else _varint_field(1, size)) for size in dims)
    tensor = _varint_field(1, kind) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
