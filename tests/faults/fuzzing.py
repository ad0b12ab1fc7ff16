"""Requests that nobody would write: made from the descriptors, valid in form, from a seed.

Field by field a value is drawn: left out, ordinary, at an edge, or hostile. Strings are drawn from what such fields
hold (names, URIs, labels) as often as from what breaks parsers, so that many requests get past the first check.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

_DEPTH = 6
_REPEATED = 3
_TEXTS = (
    "",
    " ",
    "a",
    "catalogs/fuzz",
    "catalogs/none",
    "catalogs/fuzz/products/one",
    "catalogs/fuzz/products/../../other",
    "catalogs/" + "x" * 300,
    "file:///etc/passwd",
    "file:///",
    "https://169.254.169.254/latest/meta-data",
    "s3://bucket/key",
    "concat:/etc/passwd|/etc/hosts",
    "coco",
    "cup",
    "drinkware",
    "EUR",
    "price",
    "brand",
    "\0",
    "‮e\u0301\U0001f600",
    "%2e%2e%2f",
    "'; DROP TABLE products; --",
    "x" * 20_000,
)
_WHOLE = (0, 1, 2, 5, 64, 640, 1000, 2**31 - 1)
_SIGNED = (-1, -(2**31))
_REAL = (0.0, 0.5, 1.0, -1.0, 1e-9, 2.5, 1e9, float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True)
class Call:
    """A method and the requests to send to it."""

    method: MethodDescriptor
    requests: Sequence[Message]

    @property
    def path(self) -> str:
        """As gRPC names it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


class RequestMaker:
    """Makes requests; the same ones from the same seed."""

    def __init__(self, seed: int, *, texts: Sequence[str] = (), blobs: Sequence[bytes] = ()) -> None:
        """Draw also from `texts` and `blobs`, such as the URI of a video and the bytes of a picture."""
        self._chance = random.Random(seed)
        self._texts = (*_TEXTS, *texts, *texts)
        self._blobs = (b"", b"\0", bytes(range(256)), *blobs, *blobs)

    def call(self, method: MethodDescriptor) -> Call:
        """Make the requests of one call."""
        count = self._chance.choice((0, 1, 1, 2, 2, 4)) if method.client_streaming else 1
        return Call(method, [self.message(method.input_type) for _ in range(count)])

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """Make a message."""
        made = message_factory.GetMessageClass(descriptor)()
        for group in self._fields(descriptor):
            if depth < _DEPTH and self._chance.random() < 0.7:
                self._fill(made, self._chance.choice(group), depth)
        return made

    def _fields(self, descriptor: Descriptor) -> Iterator[Sequence[FieldDescriptor]]:
        """Yield the fields of which one can be set at a time."""
        for oneof in descriptor.oneofs:
            yield oneof.fields
        for field in descriptor.fields:
            if field.containing_oneof is None:
                yield [field]

    def _fill(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        target = getattr(made, field.name)
        if _is_map(field):
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            for _ in range(self._chance.randrange(_REPEATED)):
                if value.message_type is not None:
                    target[self._scalar(key)].CopyFrom(self.message(value.message_type, depth + 1))
                else:
                    target[self._scalar(key)] = self._scalar(value)
        elif field.is_repeated:
            count = self._chance.choice((1, 1, 2, _REPEATED))
            if field.message_type is not None:
                target.extend(self.message(field.message_type, depth + 1) for _ in range(count))
            else:
                target.extend(self._scalar(field) for _ in range(count))
        elif field.message_type is not None:
            target.CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(made, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> object:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self._chance.choice(self._blobs if field.type == FieldDescriptor.TYPE_BYTES else self._texts)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._chance.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return self._chance.choice((*[value.number for value in field.enum_type.values], 99))
        if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            return self._chance.choice(_REAL)
        signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
        return self._chance.choice((*_WHOLE, *_SIGNED) if signed else _WHOLE)


def services() -> list[ServiceDescriptor]:
    """Return all services of the contract."""
    pool = descriptor_pool.Default()
    names = ("frame_decoder", "object_detector", "product_catalog", "product_matcher", "orchestrator", "server_info")
    files = [pool.FindFileByName(f"shoppable/v1/{name}.proto") for name in names]
    return [service for file in files for service in file.services_by_name.values()]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
