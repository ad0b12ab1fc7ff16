"""What a shop must not do, over real sockets: a real decoder, a real Triton with a classifier, scripted boxes."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import ROOT
from shoppable.client import ShoppableError
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import TritonRequirementError
from shoppable.v1 import common_pb2, orchestrator_pb2
from support.decoder_calls import running_decoder
from support.film_truth import seconds
from support.onnx_file import write_redness_repository
from support.orchestrating import (
    CATALOG,
    ScriptedDecoder,
    ScriptedDetector,
    ScriptedMatcher,
    objects,
    orchestrating,
    seen,
    summary_of,
    told,
)
from support.videos import Clip, encode

Offers = orchestrator_pb2.OfferOptions
CUP_AND_LAPTOP = lambda _: [seen("cup"), seen("laptop", 0.6)]
RATE = 5
# A film of 18 s that is red from 8 s to 10 s.
RED_S = (8, 10)
FILM_S = 18


def by_label(messages) -> dict[str, orchestrator_pb2.ShoppableObject]:
    return {item.label: item for item in objects(messages)}


async def test_what_the_caller_or_the_operator_excludes_is_found_and_never_matched():
    matcher = ScriptedMatcher()
    scene = lambda _: [seen("cup", 0.05), seen("laptop", 0.4), seen("bottle", 0.7)]
    async with orchestrating(
        decoder=ScriptedDecoder(10), detector=ScriptedDetector(scene), matcher=matcher, excluded_categories=("bottles",)
    ) as client:
        messages = await told(client, offers=Offers(excluded_categories=["computers"]), include_rematch_state=True)
    found = by_label(messages)
    assert matcher.asked == ["drinkware"]
    for label in ("laptop", "bottle"):
        assert found[label].withheld == common_pb2.WITHHELD_REASON_EXCLUDED_CATEGORY
        assert not found[label].products
        assert not found[label].HasField("confidence")
        assert not found[label].rematch_state.views
    assert found["cup"].products
    assert not found["cup"].withheld
    assert summary_of(messages).objects_withheld == 2


async def test_a_category_that_does_not_exist_is_a_violation_each_by_its_place():
    async with orchestrating(decoder=ScriptedDecoder(5), detector=ScriptedDetector(CUP_AND_LAPTOP)) as client:
        with pytest.raises(ShoppableError) as caught:
            await told(client, offers=Offers(excluded_categories=["computers", "drinkwear", "x"]))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [item.field for item in caught.value.violations] == [
        "options.offers.excluded_categories[1]",
        "options.offers.excluded_categories[2]",
    ]


async def test_an_operator_that_misspelt_a_category_does_not_serve():
    for names, status in ((("drinkwear",), "NOT_SERVING"), (("drinkware",), "SERVING")):
        async with orchestrating(
            decoder=ScriptedDecoder(5), detector=ScriptedDetector(CUP_AND_LAPTOP), excluded_categories=names
        ) as client:
            stub = health_pb2_grpc.HealthStub(client.channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service="shoppable.v1.OrchestratorService"))
            assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status


async def test_a_video_that_is_opted_out_is_looked_at_and_nothing_is_looked_up():
    matcher = ScriptedMatcher()
    async with orchestrating(
        decoder=ScriptedDecoder(10), detector=ScriptedDetector(CUP_AND_LAPTOP), matcher=matcher
    ) as client:
        messages = await told(
            client, offers=Offers(opt_out=True), include_rematch_state=True, include_provisional_objects=True
        )
        source = common_pb2.VideoSource(uri="file:///film.mp4")
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, offers=Offers(opt_out=True))
        unary = await client.annotate(source, options)
        found = objects(messages)
        # An opted-out object stays so, whatever is asked of it later.
        final = [item for item in found if item.final]
        again = orchestrator_pb2.RematchProductsRequest(
            catalog=CATALOG, objects=[{"object_id": item.object_id, "state": item.rematch_state} for item in final]
        )
        rematched = await client.rematch(again)
    assert matcher.asked == []
    assert len(final) == len(unary.objects) == 2
    for item in (*found, *unary.objects, *rematched.objects):
        assert item.withheld == common_pb2.WITHHELD_REASON_OPTED_OUT
        assert not item.products
    assert summary_of(messages).offers_opted_out
    assert unary.summary.offers_opted_out


async def test_what_is_too_small_or_too_short_is_offered_nothing():
    scene = lambda number: [seen("cup", size=0.2), *([seen("laptop", 0.6, size=0.3)] if number < 5 else [])]
    async with orchestrating(
        decoder=ScriptedDecoder(20), detector=ScriptedDetector(scene), min_offer_area=0.05
    ) as client:
        small = by_label(await told(client))
        short = by_label(await told(client, offers=Offers(min_area=0, min_seen=Duration(seconds=2))))
        edge = by_label(await told(client, offers=Offers(min_area=0, min_seen=Duration(seconds=1))))
    little = common_pb2.WITHHELD_REASON_TOO_LITTLE_SEEN
    assert (small["cup"].withheld, small["laptop"].withheld) == (little, 0)
    assert (short["cup"].withheld, short["laptop"].withheld) == (0, little)
    assert (edge["cup"].withheld, edge["laptop"].withheld) == (0, 0)  # 5 frames, 5 a second: just enough


async def test_a_thing_is_offered_provisionally_only_once_enough_is_seen_of_it():
    boxes = ScriptedDetector(lambda _: [seen("cup")], delay_s=0.01)
    async with orchestrating(decoder=ScriptedDecoder(40), detector=boxes, frames_in_flight=2) as client:
        options = orchestrator_pb2.AnnotateOptions(
            catalog=CATALOG, include_provisional_objects=True, omit_thumbnails=True, offers={"min_seen": {"seconds": 3}}
        )
        answered = []
        async for message in client.stream_annotate("file:///film.mp4", options, timeout_s=30):
            if message.WhichOneof("response") == "object":
                answered.append((boxes.answered, message.object))
    assert not any(item.withheld for _, item in answered)
    assert all(item.products for _, item in answered)
    # Sixteen sightings span three seconds; a few more frames may have gone through meanwhile.
    assert 16 <= answered[0][0] <= 16 + 5
    assert not answered[0][1].final


async def test_the_unary_call_returns_final_objects_only():
    async with orchestrating(decoder=ScriptedDecoder(20), detector=ScriptedDetector(CUP_AND_LAPTOP)) as client:
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, include_provisional_objects=True)
        answer = await client.annotate(common_pb2.VideoSource(uri="file:///film.mp4"), options)
    assert [item.final for item in answer.objects] == [True, True]


@pytest.fixture(scope="module")
def film() -> bytes:
    def draw(number: int, width: int, height: int) -> np.ndarray:
        red = RED_S[0] <= number / RATE < RED_S[1]
        picture = np.full((height, width, 3), (230, 20, 20) if red else (90, 110, 120), np.uint8)
        picture[::7] //= 2
        return picture

    return encode(Clip(frames=FILM_S * RATE, rate=RATE, draw=draw))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Triton that can tell how red a picture is."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    repository = write_redness_repository(tmp_path_factory.mktemp("models"), name="redness")
    starting = TritonServer.start(repository=repository, backends=ROOT / "deploy" / "triton" / "backends")
    try:
        try:
            server = asyncio.run_coroutine_threadsafe(starting, loop).result(60)
        except TritonRequirementError as error:
            pytest.skip(str(error))
        try:
            yield server.grpc_endpoint
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def scene(number: int) -> list:
    """A cup until 5 s, a laptop from 6 s to 12 s, a bottle from 13 s."""
    time_s = number / RATE
    if time_s < 5:
        return [seen("cup", 0.05)]
    if 6 <= time_s < 12:
        return [seen("laptop", 0.4)]
    return [seen("bottle", 0.7)] if time_s >= 13 else []


@contextlib.asynccontextmanager
async def watched(endpoint: str, matcher: ScriptedMatcher, **settings: object) -> AsyncIterator:
    async with (
        running_decoder() as decoder,
        orchestrating(
            decoder=decoder.address,
            detector=ScriptedDetector(scene),
            matcher=matcher,
            triton_endpoint=endpoint,
            **({"classifier_model": "redness", "classifier_padding_s": 1.0} | settings),
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("provisional", [False, True])
async def test_where_the_film_is_sensitive_nothing_is_matched_or_offered(classifier, film, tmp_path, provisional):
    matcher = ScriptedMatcher()
    path = tmp_path / "film.mp4"
    path.write_bytes(film)
    async with watched(classifier, matcher) as client:
        messages = await told(client, path, include_provisional_objects=provisional)
    summary = summary_of(messages)
    (span,) = summary.sensitive_ranges
    assert span.reason == common_pb2.WITHHELD_REASON_SENSITIVE_CONTENT
    assert 0.5 < span.score <= 1
    # The red part with its padding, and not much more: the nearest frames that were looked at are a second away.
    assert RED_S[0] - 2.3 <= seconds(span.segment.start) <= RED_S[0] - 1
    assert RED_S[1] + 1 <= seconds(span.segment.end) + 0.2 <= RED_S[1] + 2.5
    final = {item.label: item for item in objects(messages) if item.final}
    assert final["cup"].products
    assert final["bottle"].products
    assert final["laptop"].withheld == common_pb2.WITHHELD_REASON_SENSITIVE_CONTENT
    # Also no provisional message ever offered it.
    assert not any(item.products for item in objects(messages) if item.label == "laptop")
    assert not summary.failures
    assert summary.objects_withheld == 1
    if not provisional:
        assert "computers" not in matcher.asked


@pytest.mark.parametrize("away", ["server", "model"])
async def test_a_classifier_that_is_away_means_no_offers_and_is_told(classifier, film, tmp_path, away):
    matcher = ScriptedMatcher()
    path = tmp_path / "film.mp4"
    path.write_bytes(film)
    settings = {"classifier_model": "nothing"} if away == "model" else {}
    async with watched("127.0.0.1:1" if away == "server" else classifier, matcher, **settings) as client:
        messages = await told(client, path)
    assert matcher.asked == []
    assert {item.withheld for item in objects(messages)} == {common_pb2.WITHHELD_REASON_UNCLASSIFIED_CONTENT}
    summary = summary_of(messages)
    assert summary.failures
    (span,) = summary.sensitive_ranges
    assert not span.HasField("score")
    assert (seconds(span.segment.start), seconds(span.segment.end) >= FILM_S - 0.01) == (0, True)
