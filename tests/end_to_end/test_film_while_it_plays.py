"""The sample film while it plays: how soon its objects are told, in the film's own time."""

import asyncio
import time
from pathlib import Path

import pytest

from shoppable.client import OrchestratorClient, open_channel
from shoppable.v1 import orchestrator_pb2
from support.catalogs import CATALOG
from support.film_truth import seconds

CONFIRMED_BY = 3  # sightings, at five a second


@pytest.fixture(scope="module")
def events(suite, samples: Path) -> list[tuple[float, orchestrator_pb2.StreamAnnotateVideoResponse]]:
    """All that is said of the film with provisional objects, each with the seconds since the call."""

    async def listen() -> list[tuple[float, orchestrator_pb2.StreamAnnotateVideoResponse]]:
        options = orchestrator_pb2.AnnotateOptions(
            catalog=CATALOG, include_provisional_objects=True, omit_thumbnails=True
        )
        async with open_channel(suite.endpoints["orchestrator"]) as channel:
            started = time.perf_counter()
            stream = OrchestratorClient(channel).stream_annotate(samples / "film.mp4", options, timeout_s=100)
            return [(time.perf_counter() - started, message) async for message in stream]

    return asyncio.run(listen())


def test_an_object_is_told_within_a_second_of_when_it_could_be_known(events):
    film_s, first_told = 0.0, {}  # the latest moment that was detected; object id to delay in the film's time
    for _, message in events:
        match message.WhichOneof("response"):
            case "progress":
                film_s = max(film_s, seconds(message.progress.time))
            case "object":
                known_s = seconds(message.object.segments[0].start) + (CONFIRMED_BY - 1) / 5
                first_told.setdefault(message.object.object_id, film_s - known_s)
    delays = sorted(first_told.values())
    first_s = next(at for at, message in events if message.WhichOneof("response") == "object")
    print(f"first object {first_s:.2f} s after the call; delays in film time {[round(delay, 2) for delay in delays]}")
    # Progress is told each half a second of work, so a delay can seem shorter by that and never longer.
    assert delays[len(delays) // 2] <= 1.0, delays
    final = {message.object.object_id for _, message in events if message.WhichOneof("response") == "object"}
    assert len(final) >= 11


def test_the_last_word_on_each_object_is_final(events):
    latest, void = {}, set()
    for _, message in events:
        if message.WhichOneof("response") == "object":
            latest[message.object.object_id] = message.object
            void.update(message.object.supersedes)
    assert {item.object_id for item in latest.values() if not item.final} == void
    assert sum(item.final for item in latest.values()) == events[-1][1].summary.objects
