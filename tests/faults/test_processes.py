"""A process of the suite is killed, or stands still, while it works: what the caller gets, and that it heals."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from faults.annotating import annotate, annotate_until_well
from faults.harness import FaultySuite, Finding
from shoppable.client import OrchestratorClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2
from support.catalogs import CATALOG

FRAMES = 84  # of the film, six a second
DEADLINE_S = 5


async def annotate_and_harm(
    faulty: FaultySuite, film: Path | str, harm: Callable[[], None]
) -> list[orchestrator_pb2.StreamAnnotateVideoResponse]:
    """Annotate the film, and do harm at the first progress."""
    options = orchestrator_pb2.AnnotateOptions(
        catalog=CATALOG, sampling=common_pb2.FrameSampling(frames_per_second=6), omit_thumbnails=True
    )
    messages, harmed = [], False
    async with open_channel(faulty.endpoint("orchestrator")) as channel:
        async for message in OrchestratorClient(channel).stream_annotate(film, options, timeout_s=90):
            messages.append(message)
            if not harmed and message.WhichOneof("response") == "progress":
                harmed = True
                harm()
    assert harmed
    return messages


def summary(messages: list[orchestrator_pb2.StreamAnnotateVideoResponse]) -> orchestrator_pb2.AnnotateSummary:
    assert messages[-1].WhichOneof("response") == "summary"
    return messages[-1].summary


@pytest.mark.parametrize("victim", ["decoder", "detector", "matcher", "inference"])
async def test_a_process_that_is_killed_costs_no_frame_and_no_match(
    faulty: FaultySuite, samples: Path, fault: Finding, victim: str
):
    film = (samples / "film.mp4").as_uri()
    told = summary(await annotate_and_harm(faulty, film, lambda: os.kill(faulty.pid(victim), signal.SIGKILL)))
    assert (told.frames_sampled, told.frames_failed, told.objects_unmatched) == (FRAMES, 0, 0)
    assert told.objects >= 11
    fault.fault, fault.caller_sees = f"{victim} killed in the middle of a film", "the whole list"


async def test_an_upload_whose_decoder_is_killed_ends_and_the_next_call_works(
    faulty: FaultySuite, samples: Path, fault: Finding
):
    with pytest.raises(ShoppableError) as caught:
        await annotate_and_harm(faulty, samples / "film.mp4", lambda: os.kill(faulty.pid("decoder"), signal.SIGKILL))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.retry_after_s
    fault.fault, fault.caller_sees = "decoder killed in the middle of an upload", "UNAVAILABLE, RetryInfo"
    fault.recovery_s = (await annotate_until_well(faulty.address, samples / "film.mp4")).took_s


@pytest.mark.parametrize("victim", ["decoder", "detector", "matcher", "inference"])
async def test_a_process_that_stands_still_ends_calls_by_their_deadline_and_its_return_heals(
    faulty: FaultySuite, samples: Path, fault: Finding, victim: str
):
    pid = faulty.pid(victim)
    os.kill(pid, signal.SIGSTOP)
    try:
        ending = await annotate(faulty.address, samples / "film.mp4", timeout_s=DEADLINE_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ending.took_s < DEADLINE_S + 5
    assert ending.refused_well, ending.error
    again = await annotate_until_well(faulty.address, samples / "film.mp4")
    fault.fault, fault.caller_sees = f"{victim} stands still", ending.seen
    fault.recovery_s = again.took_s
    assert again.summary.frames_failed == 0


async def test_callers_that_were_waiting_when_the_orchestrator_was_killed_are_told_and_the_next_ones_served(
    faulty: FaultySuite, samples: Path, fault: Finding
):
    calls = [asyncio.create_task(annotate(faulty.address, samples / "film.mp4", seconds=10)) for _ in range(3)]
    await asyncio.sleep(0.5)
    os.kill(faulty.pid("orchestrator"), signal.SIGKILL)
    endings = await asyncio.gather(*calls)
    assert {ending.seen for ending in endings} == {"UNAVAILABLE"}
    fault.fault, fault.caller_sees = "orchestrator killed with three films in work", "UNAVAILABLE"
    fault.recovery_s = (await annotate_until_well(faulty.address, samples / "film.mp4")).took_s
