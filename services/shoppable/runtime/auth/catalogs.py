"""Which catalogues a request names, found by its descriptor.

By the suite's conventions a catalogue is named in a string field `catalog`, `name` or `parent` (a resource name
`catalogs/{catalog}...`) or `catalog_id` (the bare id), at any depth of single messages.
"""

import functools
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_NAMES = ("catalog", "name", "parent")
_ID = "catalog_id"
# RPCs that answer about every catalogue and name none.
ABOUT_ALL = frozenset({("shoppable.v1.ProductCatalogService", "ListCatalogs")})

_Path = tuple[str, ...]


def named_catalogs(request: Message) -> Iterator[str]:
    """Yield the ids as they are written: a text that is no id is yielded too, for no pattern to allow it."""
    for path in catalog_paths(request.DESCRIPTOR):
        text = _read(request, path)
        if not text:
            continue
        if path[-1] == _ID:
            yield text
        elif text.startswith("catalogs/"):
            yield text.split("/")[1]


@functools.cache
def catalog_paths(descriptor: Descriptor) -> tuple[_Path, ...]:
    """Return the paths of the fields of a message that may name a catalogue."""
    return tuple(_walk(descriptor, (), frozenset()))


def _walk(descriptor: Descriptor, prefix: _Path, above: frozenset[str]) -> Iterator[_Path]:
    for field in descriptor.fields:
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING and field.name in (*_NAMES, _ID):
            yield (*prefix, field.name)
        elif field.message_type is not None and field.message_type.full_name not in above:
            yield from _walk(field.message_type, (*prefix, field.name), above | {field.message_type.full_name})


def _read(message: Message, path: _Path) -> str:
    for name in path[:-1]:
        if not message.HasField(name):
            return ""
        message = getattr(message, name)
    return str(getattr(message, path[-1]))
