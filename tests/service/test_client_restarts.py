"""A client of two replicas, one of which ends and starts anew again and again while calls arrive at it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

import grpc
import pytest

from shoppable.client import DecoderClient, ShoppableError, open_channel
from shoppable.local.ports import ReservedPort
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc
from support.scripted import scripted

URI = "file:///film.mp4"
CALLERS = 16
RESTARTS = 10
GRACE_S = 0.5
# In one of some hundred stops grpc.aio keeps a call that no servicer sees, and lets it go at the end of the grace
# period, with this. A unary call is tried again then; a stream is not, since UNAVAILABLE may come after long work.
KEPT = "Cancelling all calls"


class Ready(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Answers at once, and counts."""

    def __init__(self) -> None:
        self.answered = 0

    async def ProbeVideo(self, request, context):
        self.answered += 1
        return frame_decoder_pb2.ProbeVideoResponse()

    async def DecodeFrames(self, request_iterator, context):
        self.answered += 1
        yield frame_decoder_pb2.DecodeFramesResponse(summary=frame_decoder_pb2.DecodeSummary())


@contextlib.asynccontextmanager
async def replica(port: ReservedPort) -> AsyncIterator[Ready]:
    servicer = Ready()
    async with scripted("FrameDecoderService", servicer, port=port.number, shutdown_grace_s=GRACE_S):
        yield servicer


async def probed(client: DecoderClient) -> None:
    await client.probe(common_pb2.VideoSource(uri=URI))


async def decoded(client: DecoderClient) -> None:
    try:
        answers = [answer async for answer in client.decode(URI, frame_decoder_pb2.DecodeFramesConfig())]
    except ShoppableError as error:
        assert (error.code, error.message) == (grpc.StatusCode.UNAVAILABLE, KEPT)
    else:
        assert [answer.WhichOneof("response") for answer in answers] == ["summary"]


@pytest.mark.parametrize("call", [probed, decoded])
async def test_calls_that_a_replica_had_not_begun_when_it_ended_are_answered_by_the_other(
    call: Callable[[DecoderClient], Coroutine[None, None, None]],
):
    lasting, passing = ReservedPort(), ReservedPort()
    failed: list[BaseException] = []
    asking = True

    async def ask(client: DecoderClient) -> None:
        while asking:
            try:
                await call(client)
            except (ShoppableError, AssertionError) as error:
                failed.append(error)

    async with (
        replica(lasting),
        open_channel(f"ipv4:{lasting.address},{passing.address}") as channel,
        asyncio.TaskGroup() as callers,
    ):
        for _ in range(CALLERS):
            callers.create_task(ask(DecoderClient(channel)))
        for _ in range(RESTARTS):
            async with replica(passing) as servicer:
                while servicer.answered < 2 * CALLERS:
                    await asyncio.sleep(0.01)
        asking = False
    lasting.release()
    passing.release()
    assert failed == []
