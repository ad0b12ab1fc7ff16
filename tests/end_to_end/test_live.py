"""A camera that never stops, through the real services: MPEG-TS and fragmented MP4, encoded while they are sent."""

import asyncio
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shoppable.client import OrchestratorClient, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2
from support.catalogs import CATALOG
from support.film_truth import seconds
from support.live_camera import LiveCamera

FILM_S = 14  # of the sample film
MAX_LAG_S = 2.0
PATIENCE_S = 60
CLOCK_WRAPS_S = 2**33 / 90_000  # of a transport stream: a day and two and a half hours


@dataclass
class Heard:
    """What was said of a live stream."""

    summary: orchestrator_pb2.AnnotateSummary | None = None
    objects: list[orchestrator_pb2.ShoppableObject] = field(default_factory=list)
    while_it_played: set[str] = field(default_factory=set)  # ids of objects that were told before the stream was over
    elapsed_s: float = 0.0
    lags_s: list[float] = field(default_factory=list)  # of the stream's time: how far the answers were behind
    dropped: list[int] = field(default_factory=list)


async def listen(suite, camera: LiveCamera, *, until_dropped: int = 0, **options: object) -> Heard:
    """Listen to all of it; a camera that films until so many frames are dropped is stopped then."""
    heard = Heard()
    wanted = orchestrator_pb2.AnnotateOptions(
        catalog=CATALOG, omit_thumbnails=True, include_provisional_objects=True, live={}, **options
    )
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        async for message in OrchestratorClient(channel).stream_annotate(camera.chunks(), wanted, timeout_s=100):
            match message.WhichOneof("response"):
                case "object":
                    heard.objects.append(message.object)
                    if not camera.over:
                        heard.while_it_played.add(message.object.object_id)
                case "progress" if not camera.over:
                    heard.lags_s.append(camera.sent_s - seconds(message.progress.time))
                    heard.dropped.append(message.progress.frames_dropped)
                    if until_dropped and heard.dropped[-1] >= until_dropped:
                        camera.stop()
                case "summary":
                    heard.summary = message.summary
    assert heard.summary is not None
    heard.elapsed_s = heard.summary.elapsed.ToMicroseconds() / 1e6
    return heard


def most_lag_s(heard: Heard) -> float:
    """Return how far the answers may be behind, as fast as this machine is."""
    detect = next(stage for stage in heard.summary.stages if stage.stage == "detect")
    # Behind the frames that wait are eight at the detector, one or two between, and what came since the last progress.
    at_work_s = 10 * heard.elapsed_s / detect.items
    # Before them: what the decoder keeps before it gives the first frame, and a second that fragmented MP4 collects.
    return MAX_LAG_S + 2 * at_work_s + 0.5 + 1.0


async def test_a_camera_that_films_on_and_on_is_told_of_while_it_does(suite, samples: Path):
    length_s = FILM_S + 4  # over the seam, where the times go on
    camera = LiveCamera(samples / "film.mp4", seconds=length_s, clock_s=CLOCK_WRAPS_S - 9)
    heard = await listen(suite, camera)
    print(f"lags {[round(lag, 1) for lag in heard.lags_s]}, dropped {heard.dropped[-1]}")
    summary = heard.summary
    assert not summary.video.HasField("duration")
    assert summary.frames_sampled == pytest.approx(5 * length_s, abs=2)
    assert (summary.frames_failed, summary.damaged_packets, summary.truncated) == (0, 0, False)
    assert len(heard.while_it_played) >= 8
    final = [item for item in heard.objects if item.final]
    assert len(final) == summary.objects >= 8
    # What is in the picture at the start of the film is there again after the seam.
    assert any(seconds(item.segments[-1].start) >= FILM_S for item in final)
    assert max(heard.lags_s) <= most_lag_s(heard)


@pytest.fixture(scope="module")
def frames_a_second(suite, samples: Path) -> float:
    """How many frames the models look at in a second, on this machine as it is now."""

    async def summary() -> orchestrator_pb2.AnnotateSummary:
        source = common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())
        wanted = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, omit_thumbnails=True, end_time={"seconds": 6})
        async with open_channel(suite.endpoints["orchestrator"]) as channel:
            return (await OrchestratorClient(channel).annotate(source, wanted, timeout_s=100)).summary

    told = asyncio.run(summary())
    return told.frames_sampled / (told.elapsed.ToMicroseconds() / 1e6)


@pytest.mark.parametrize("container", ["mpegts", "mp4"])
async def test_a_camera_that_is_too_fast_is_kept_up_with_by_dropping_and_the_answer_says_how_much(
    suite, samples: Path, frames_a_second: float, container
):
    rate = int(3 * frames_a_second)
    camera = LiveCamera(samples / "film.mp4", seconds=PATIENCE_S, container=container, rate=rate)
    heard = await listen(suite, camera, until_dropped=rate, sampling={"every_nth_frame": 1})
    summary = heard.summary
    print(
        f"lags {[round(lag, 1) for lag in heard.lags_s]}, dropped {summary.frames_dropped} of {summary.frames_sampled}"
    )
    detect = next(stage for stage in summary.stages if stage.stage == "detect")
    assert summary.frames_sampled == camera.filmed
    assert summary.frames_dropped >= rate
    assert summary.frames_dropped + detect.items == summary.frames_sampled
    assert heard.dropped == sorted(heard.dropped)
    # The median: a machine that is full to the brim, with this camera on it, stands still now and then.
    assert statistics.median(heard.lags_s) <= most_lag_s(heard)
