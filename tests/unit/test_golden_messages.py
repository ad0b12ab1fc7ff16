"""Messages that were sent once decode for ever, and what a later version adds survives an earlier one."""

from pathlib import Path

import pytest
from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc import error_details_pb2  # noqa: F401  # JSON of statuses names it

from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.binpb"))
MODULES = (
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)
UNKNOWN = b"\xf8\xff\x0f\x2a"  # field 32767, a varint: 42


def empty(name: str) -> Message:
    # A union's alternative follows the message's name.
    return symbol_database.Default().GetSymbol(".".join(name.split(".")[:3]))()


def read(name: str) -> Message:
    message = empty(name)
    message.ParseFromString((GOLDEN / f"{name}.binpb").read_bytes())
    return message


def all_within(message: Message):
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for child in value if field.is_repeated else [value]:
                yield from all_within(child)


def test_each_message_of_an_rpc_has_a_golden_file_for_each_alternative():
    wanted = set()
    for module in MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                for message in (method.input_type, method.output_type):
                    unions = [union for union in message.oneofs if not union.name.startswith("_")]
                    alternatives = [f".{field.name}" for union in unions for field in union.fields] or [""]
                    wanted |= {f"{message.full_name}{alternative}" for alternative in alternatives}
    assert wanted <= set(NAMES), "run `make gen`"


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_message_decodes_whole_from_binary_and_from_json(name):
    message = read(name)
    for part in all_within(message):
        assert len(UnknownFieldSet(part)) == 0, f"{part.DESCRIPTOR.full_name} has lost a field"
    assert message == json_format.Parse((GOLDEN / f"{name}.json").read_text(), empty(name))
    assert message.SerializeToString(deterministic=True) == (GOLDEN / f"{name}.binpb").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_field_of_a_later_version_survives_a_round_trip(name):
    grown = empty(name)
    grown.ParseFromString((GOLDEN / f"{name}.binpb").read_bytes() + UNKNOWN)
    assert [(field.field_number, field.data) for field in UnknownFieldSet(grown)] == [(32767, 42)]
    assert UNKNOWN in grown.SerializeToString()
    copy = empty(name)
    copy.CopyFrom(grown)
    assert UNKNOWN in copy.SerializeToString()


def test_an_enum_value_of_a_later_version_survives_a_round_trip():
    image = common_pb2.Image.FromString(common_pb2.Image(format=99).SerializeToString())
    assert image.format == 99
    assert json_format.MessageToDict(image) == {"format": 99}
    thing = orchestrator_pb2.ShoppableObject.FromString(
        orchestrator_pb2.ShoppableObject(decision=17).SerializeToString()
    )
    assert thing.decision == 17
