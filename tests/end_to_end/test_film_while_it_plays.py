"""The sample film while it plays: how soon its objects are told, in the film's own time."""

import asyncio
from pathlib import Path

import pytest

from shoppable.client import OrchestratorClient, open_channel
from shoppable.v1 import orchestrator_pb2
from support.catalogs import CATALOG
from support.film_truth import seconds
from support.live_camera import LiveCamera

FILM_S = 14
CONFIRMED_BY = 3  # sightings, at five a second


@pytest.fixture(scope="module")
def told(suite, samples: Path) -> list[tuple[float, orchestrator_pb2.ShoppableObject]]:
    """All that is said of objects, each with the seconds since the camera had shown the sightings that it takes."""

    async def listen() -> list[tuple[float, orchestrator_pb2.ShoppableObject]]:
        camera = LiveCamera(samples / "film.mp4", seconds=FILM_S)
        options = orchestrator_pb2.AnnotateOptions(
            catalog=CATALOG, include_provisional_objects=True, omit_thumbnails=True, live={}
        )
        heard = []
        async with open_channel(suite.endpoints["orchestrator"]) as channel:
            async for message in OrchestratorClient(channel).stream_annotate(camera.chunks(), options, timeout_s=100):
                if message.WhichOneof("response") == "object":
                    known_s = seconds(message.object.segments[0].start) + (CONFIRMED_BY - 1) / 5
                    heard.append((camera.lag_s(known_s), message.object))
        return heard

    return asyncio.run(listen())


def test_an_object_is_told_within_a_second_of_when_it_could_be_known(told):
    delays = {}
    for delay_s, item in told:
        delays.setdefault(item.object_id, delay_s)
    print(f"delays {sorted(round(delay_s, 2) for delay_s in delays.values())}")
    assert len(delays) >= 11
    assert sorted(delays.values())[len(delays) // 2] <= 1.0


def test_the_last_word_on_each_object_is_final(told):
    latest, void = {}, set()
    for _, item in told:
        latest[item.object_id] = item
        void.update(item.supersedes)
    assert {item.object_id for item in latest.values() if not item.final} == void
