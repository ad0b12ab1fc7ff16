"""A process of the suite is killed while it works on a film: what the caller gets, and that it heals by itself."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoppable.client import OrchestratorClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2
from support.catalogs import CATALOG

RECOVERY_LIMIT_S = 60


async def until_well(suite) -> None:
    """Wait until the orchestrator says that it and all it needs serve."""
    async with asyncio.timeout(RECOVERY_LIMIT_S), grpc.aio.insecure_channel(suite.endpoints["orchestrator"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.2)


async def annotate_and_kill(suite, film: Path | str, victim: str) -> list[orchestrator_pb2.StreamAnnotateVideoResponse]:
    """Annotate the film and kill the victim at the first progress."""
    options = orchestrator_pb2.AnnotateOptions(
        catalog=CATALOG, sampling=common_pb2.FrameSampling(frames_per_second=6), omit_thumbnails=True
    )
    messages, killed = [], None
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        async for message in OrchestratorClient(channel).stream_annotate(film, options, timeout_s=90):
            messages.append(message)
            if killed is None and message.WhichOneof("response") == "progress":
                killed = suite.pid(victim)
                os.kill(killed, signal.SIGKILL)
    assert killed is not None
    return messages


def summary(messages) -> orchestrator_pb2.AnnotateSummary:
    assert messages[-1].WhichOneof("response") == "summary"
    return messages[-1].summary


async def test_a_detector_that_is_killed_costs_no_frame(suite, samples: Path):
    await until_well(suite)
    told = summary(await annotate_and_kill(suite, samples / "film.mp4", "detector"))
    assert told.frames_sampled == 84
    assert told.frames_failed == 0
    assert told.objects >= 11
    await until_well(suite)


async def test_triton_killed_costs_no_frame_and_no_match(suite, samples: Path):
    await until_well(suite)
    told = summary(await annotate_and_kill(suite, samples / "film.mp4", "inference"))
    assert told.frames_sampled == 84
    assert (told.frames_failed, told.objects_unmatched) == (0, 0)
    assert told.objects >= 11
    await until_well(suite)


async def test_a_matcher_that_is_killed_costs_no_match(suite, samples: Path):
    await until_well(suite)
    told = summary(await annotate_and_kill(suite, samples / "film.mp4", "matcher"))
    assert told.objects >= 11
    assert told.objects_unmatched == 0
    await until_well(suite)


async def test_a_decoder_that_is_killed_goes_on_where_it_stopped(suite, samples: Path):
    await until_well(suite)
    told = summary(await annotate_and_kill(suite, (samples / "film.mp4").as_uri(), "decoder"))
    assert told.frames_sampled == 84
    assert told.objects >= 11
    await until_well(suite)


async def test_an_upload_whose_decoder_is_killed_ends_and_the_next_call_works(suite, samples: Path):
    await until_well(suite)
    with pytest.raises(ShoppableError) as caught:
        await annotate_and_kill(suite, samples / "film.mp4", "decoder")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.retry_after_s
    options = orchestrator_pb2.AnnotateOptions(end_time={"seconds": 1})
    source = common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())
    async with asyncio.timeout(RECOVERY_LIMIT_S), open_channel(suite.endpoints["orchestrator"]) as channel:
        while True:
            try:
                answer = await OrchestratorClient(channel).annotate(source, options)
                break
            except ShoppableError as error:  # told at once, and when to come back
                assert error.code is grpc.StatusCode.UNAVAILABLE
                await asyncio.sleep(error.retry_after_s)
    assert answer.objects
