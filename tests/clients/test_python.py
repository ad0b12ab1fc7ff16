"""Both Python clients against the suite of `make test-clients`: skipped without it."""

import asyncio
import json
import os
from pathlib import Path

import grpc
import pytest

from clients.run import essence
from shoppable import client
from shoppable.client import sync
from shoppable.v1 import common_pb2, orchestrator_pb2

VARIABLES = {name.removeprefix("SHOPPABLE_TEST_"): value for name, value in os.environ.items()}
pytestmark = pytest.mark.skipif("ORCHESTRATOR" not in VARIABLES, reason="needs a running suite: make test-clients")


@pytest.fixture
def channel():
    with sync.open_channel(VARIABLES["ORCHESTRATOR"]) as channel:
        yield channel


def options(**fields) -> orchestrator_pb2.AnnotateOptions:
    return orchestrator_pb2.AnnotateOptions(catalog=VARIABLES["CATALOG"], **fields)


def expected():
    return json.loads(Path(VARIABLES["EXPECTED"]).read_text())


@pytest.mark.parametrize("source", ["FILM", "FILM_URI"])
def test_the_blocking_client_reads_what_the_asynchronous_one_does(channel, source):
    video = VARIABLES[source] if source == "FILM_URI" else Path(VARIABLES[source])
    answers = sync.OrchestratorClient(channel).stream_annotate(video, options())
    assert essence([answer.object for answer in answers if answer.HasField("object")]) == expected()


def test_all_at_once_is_the_same(channel):
    source = common_pb2.VideoSource(uri=VARIABLES["FILM_URI"])
    assert essence(sync.OrchestratorClient(channel).annotate(source, options()).objects) == expected()


def test_a_bad_request_names_all_its_fields(channel):
    with pytest.raises(client.ShoppableError) as caught:
        list(sync.OrchestratorClient(channel).stream_annotate("file:///a", options(longest_side=1, match_confidence=7)))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    fields = {violation.field.rpartition(".")[2] for violation in caught.value.violations}
    assert fields == {"longest_side", "match_confidence"}


def test_cancelling_and_a_deadline_end_the_work(channel):
    orchestrator = sync.OrchestratorClient(channel)
    stream = orchestrator.stream_annotate(Path(VARIABLES["FILM"]), options())
    next(stream)
    stream.cancel()
    with pytest.raises(client.ShoppableError) as caught:
        list(stream)
    assert caught.value.code is grpc.StatusCode.CANCELLED
    with pytest.raises(client.ShoppableError) as caught:
        list(orchestrator.stream_annotate(Path(VARIABLES["FILM"]), options(), timeout_s=0.3))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.skipif("TLS_DECODER" not in VARIABLES, reason="needs openssl")
def test_tls_is_spoken_to_a_server_of_trust_and_to_no_other():
    source = common_pb2.VideoSource(uri=VARIABLES["FILM_URI"])
    trusted = client.TlsFiles(roots=Path(VARIABLES["TLS_ROOTS"]))
    with sync.open_channel(VARIABLES["TLS_DECODER"], tls=trusted) as channel:
        assert sync.DecoderClient(channel).probe(source).video.codec == "h264"
    with (
        sync.open_channel(VARIABLES["TLS_DECODER"], tls=client.TlsFiles()) as channel,
        pytest.raises(client.ShoppableError),
    ):
        sync.DecoderClient(channel).probe(source)

    async def probe() -> str:
        async with client.open_channel(VARIABLES["TLS_DECODER"], tls=trusted) as channel:
            return (await client.DecoderClient(channel).probe(source)).video.codec

    assert asyncio.run(probe()) == "h264"
