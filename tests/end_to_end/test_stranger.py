"""A client that knows nothing of us but gRPC: it learns all it needs from reflection."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ASKED = {
    "decoder": ("shoppable.v1.FrameDecoderService", "ProbeVideo", {"source": {"uri": "FILM"}}),
    "detector": ("shoppable.v1.ObjectDetectorService", "ListDetectionModels", {}),
    "matcher": ("shoppable.v1.ProductCatalogService", "ListProducts", {"parent": "catalogs/sample", "pageSize": 3}),
    "orchestrator": (
        "shoppable.v1.OrchestratorService",
        "AnnotateVideo",
        {"source": {"uri": "FILM"}, "options": {"catalog": "catalogs/sample", "startTime": "0s", "endTime": "1.5s"}},
    ),
}
EXPECTED = {
    "decoder": lambda answer: answer["video"]["codec"] == "h264",
    "detector": lambda answer: [model["ready"] for model in answer["models"]] == [True, True],
    "matcher": lambda answer: len(answer["products"]) == 3 and answer["nextPageToken"],
    "orchestrator": lambda answer: {"laptop", "clock"} <= {item["label"] for item in answer["objects"]},
}


class Stranger:
    """Calls any method by name with JSON, as grpcurl does."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def call(self, service: str, method: str, request: dict) -> dict:
        described = self._pool.FindServiceByName(service).FindMethodByName(method)
        message = ParseDict(request, GetMessageClass(described.input_type)(), descriptor_pool=self._pool)
        invoke = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda item: item.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        return MessageToDict(invoke(message, timeout=60), descriptor_pool=self._pool)


@pytest.fixture(params=ASKED)
def room(request, suite) -> Iterator[tuple[str, Stranger]]:
    with grpc.insecure_channel(suite.endpoints[request.param]) as channel:
        yield request.param, Stranger(channel)


def test_a_stranger_lists_services_reads_health_and_gets_an_answer(room, samples: Path):
    name, stranger = room
    service, method, question = ASKED[name]
    assert {service, "grpc.health.v1.Health", "shoppable.v1.ServerInfoService"} <= stranger.services()
    assert stranger.call("grpc.health.v1.Health", "Check", {"service": service}) == {"status": "SERVING"}
    if "source" in question:
        question = question | {"source": {"uri": (samples / "film.mp4").as_uri()}}
    answer = stranger.call(service, method, question)
    assert EXPECTED[name](answer), answer


def test_each_server_tells_its_version_and_limits(room):
    _, stranger = room
    info = stranger.call("shoppable.v1.ServerInfoService", "GetServerInfo", {})
    assert info["version"]
    assert {"max_message_bytes", "max_concurrent_calls"} <= {limit["name"] for limit in info["limits"]}
