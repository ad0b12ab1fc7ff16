"""Keeps messages as they are on the wire today, in tests/golden: whatever comes later must decode them.

A file is written once, for a message of an RPC that has none yet, and never again: `make gen` adds what is missing.
Each is there twice, in binary and as JSON, and a message that is a union once for each of its alternatives.
"""

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2

_SCALARS: dict[int, Any] = {
    FieldDescriptor.TYPE_BOOL: lambda _: True,
    FieldDescriptor.TYPE_STRING: lambda number: f"text {number} – ünïcode",
    FieldDescriptor.TYPE_BYTES: lambda number: bytes([0, 255, number % 256]),
    # Exact in 32 bits, so that JSON and binary agree to the last digit.
    FieldDescriptor.TYPE_FLOAT: lambda number: number / 128,
    FieldDescriptor.TYPE_DOUBLE: lambda number: number / 128,
    FieldDescriptor.TYPE_INT32: lambda number: -number,
    FieldDescriptor.TYPE_UINT32: lambda number: 2**31 + number,
    # Beyond what a number of JavaScript holds.
    FieldDescriptor.TYPE_INT64: lambda number: -(2**60) - number,
    FieldDescriptor.TYPE_UINT64: lambda number: 2**63 + number,
}


def write_missing(root: Path) -> list[Path]:
    """Write the files that are not there yet below `root`, and return their paths without their endings."""
    written = []
    for descriptor in _rpc_messages(root):
        for name, message in _variants(descriptor):
            path = root / "tests" / "golden" / name
            if not path.with_name(f"{name}.binpb").exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f"{name}.binpb").write_bytes(message.SerializeToString(deterministic=True))
                path.with_name(f"{name}.json").write_text(json_format.MessageToJson(message, ensure_ascii=False) + "\n")
                written.append(path)
    return written


def _rpc_messages(root: Path) -> Iterator[Descriptor]:
    for proto in sorted((root / "protos" / "shoppable" / "v1").glob("*.proto")):
        module = importlib.import_module(f"shoppable.v1.{proto.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield from (method.input_type, method.output_type)


def _variants(descriptor: Descriptor) -> Iterator[tuple[str, Message]]:
    unions = _unions(descriptor)
    if not unions:
        yield descriptor.full_name, _Filler().fill(descriptor)
        return
    for alternative in unions[0].fields:
        yield f"{descriptor.full_name}.{alternative.name}", _Filler().fill(descriptor, alternative.name)


def _unions(descriptor: Descriptor) -> list[Any]:
    # `optional` is a union of one under the hood.
    return [union for union in descriptor.oneofs if not union.name.startswith("_")]


class _Filler:
    """Sets every field of a message, each to a value of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._inside: list[str] = []  # messages being filled: one that holds itself is left out there

    def fill(self, descriptor: Descriptor, chosen: str = "") -> Message:
        """Return a full message; of a union, the named alternative, or another each time."""
        message: Message = message_factory.GetMessageClass(descriptor)()
        skipped = set()
        for union in _unions(descriptor):
            names = [field.name for field in union.fields]
            keep = chosen if chosen in names else names[next(self._numbers) % len(names)]
            skipped |= set(names) - {keep}
        self._inside.append(descriptor.full_name)
        for field in descriptor.fields:
            holds_itself = field.message_type is not None and field.message_type.full_name in self._inside
            if field.name not in skipped and not holds_itself:
                self._set(message, field)
        self._inside.pop()
        return message

    def _set(self, message: Message, field: FieldDescriptor) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(2):
                getattr(message, field.name)[f"key {next(self._numbers)}"] = f"value {next(self._numbers)}"
        elif field.is_repeated:
            values = [self._value(field) for _ in range(2)]
            getattr(message, field.name).extend(values)
        elif field.message_type is not None:
            # Set although it may be empty: that it is there is part of the message.
            getattr(message, field.name).SetInParent()
            getattr(message, field.name).CopyFrom(self._value(field))
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        number = next(self._numbers)
        if field.enum_type is not None:
            return field.enum_type.values[1 + number % (len(field.enum_type.values) - 1)].number
        if field.message_type is None:
            return _SCALARS[field.type](number)
        if field.message_type.full_name == any_pb2.Any.DESCRIPTOR.full_name:
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason=f"REASON_{number}", domain="shoppable"))
            return detail
        if field.message_type.file.package == "google.protobuf":  # JSON has ranges for these
            return message_factory.GetMessageClass(field.message_type)(seconds=number, nanos=500_000_000)
        return self.fill(field.message_type)
