"""Annotates through a scripted orchestrator behind a real channel."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from shoppable.cli.annotating import annotate
from shoppable.cli.console import Reporter
from shoppable.cli.failures import CommandError
from shoppable.client import OrchestratorClient, ShoppableError, open_channel
from shoppable.runtime.errors import UnavailableError, to_status
from shoppable.v1 import orchestrator_pb2 as pb
from shoppable.v1 import orchestrator_pb2_grpc
from unit.cli.sample_answer import sample_answer


class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Sends objects in another order than that of their appearance, each first as provisional."""

    def __init__(self, *, summary: bool = True) -> None:
        self.uploaded = b""
        self._summary = summary

    async def StreamAnnotateVideo(
        self, requests: AsyncIterator[pb.StreamAnnotateVideoRequest], context: Any
    ) -> AsyncIterator[pb.StreamAnnotateVideoResponse]:
        async for request in requests:
            self.uploaded += request.chunk
        answer = sample_answer()
        yield pb.StreamAnnotateVideoResponse(video=answer.summary.video)
        for thing in reversed(answer.objects):
            early = pb.ShoppableObject(object_id=thing.object_id, label="early", segments=thing.segments)
            yield pb.StreamAnnotateVideoResponse(object=early)
            yield pb.StreamAnnotateVideoResponse(progress=pb.AnnotateProgress(fraction=0.5))
            yield pb.StreamAnnotateVideoResponse(object=thing)
        if self._summary:
            yield pb.StreamAnnotateVideoResponse(summary=answer.summary)


class Failing(Orchestrator):
    """Fails its first call, as one does whose services are not back yet."""

    def __init__(self, *, retry_after_s: float = 0.01, once_begun: bool = False) -> None:
        super().__init__()
        self.calls = 0
        self._error = UnavailableError("the decoder is away; try again", reason="AWAY", retry_after_s=retry_after_s)
        self._once_begun = once_begun

    async def StreamAnnotateVideo(
        self, requests: AsyncIterator[pb.StreamAnnotateVideoRequest], context: Any
    ) -> AsyncIterator[pb.StreamAnnotateVideoResponse]:
        self.calls += 1
        if self.calls == 1:
            if self._once_begun:
                yield pb.StreamAnnotateVideoResponse(progress=pb.AnnotateProgress(fraction=0.5))
            await context.abort_with_status(rpc_status.to_status(to_status(self._error)))
        async for message in super().StreamAnnotateVideo(requests, context):
            yield message


@asynccontextmanager
async def client_of(orchestrator: Orchestrator) -> AsyncIterator[OrchestratorClient]:
    server = grpc.aio.server()
    orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server(orchestrator, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield OrchestratorClient(channel)
    finally:
        await server.stop(None)


async def test_stream_becomes_the_answer_in_order_of_appearance(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(1_000_000))
    orchestrator = Orchestrator()
    async with client_of(orchestrator) as client:
        answer = await annotate(client, film, pb.AnnotateOptions(), Reporter())
    expected = sample_answer()
    assert orchestrator.uploaded == film.read_bytes()
    assert answer.summary == expected.summary
    starts = [thing.segments[0].start.ToNanoseconds() for thing in answer.objects]
    assert starts == sorted(starts)
    assert {thing.object_id: thing for thing in answer.objects} == {
        thing.object_id: thing for thing in expected.objects
    }


async def test_stream_without_a_summary_is_no_answer() -> None:
    async with client_of(Orchestrator(summary=False)) as client:
        with pytest.raises(CommandError, match="without a summary"):
            await annotate(client, "file:///film.mp4", pb.AnnotateOptions(), Reporter())


async def test_call_that_is_told_to_come_back_comes_back_with_the_whole_film(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(1_000_000))
    orchestrator = Failing()
    async with client_of(orchestrator) as client:
        answer = await annotate(client, film, pb.AnnotateOptions(), Reporter())
    assert answer.summary == sample_answer().summary
    assert orchestrator.uploaded == film.read_bytes()
    assert "the decoder is away: trying again in 0.01 s" in capsys.readouterr().err


@pytest.mark.parametrize("orchestrator", [Failing(retry_after_s=3600), Failing(once_begun=True)])
async def test_call_that_would_wait_too_long_or_had_begun_is_not_made_again(orchestrator: Failing) -> None:
    async with client_of(orchestrator) as client:
        with pytest.raises(ShoppableError, match="the decoder is away"):
            await annotate(client, "file:///film.mp4", pb.AnnotateOptions(), Reporter())
    assert orchestrator.calls == 1
