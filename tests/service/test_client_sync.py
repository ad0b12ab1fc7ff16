"""The blocking client against a real server: errors, cancelling, deadlines, uploads, retries, and who is calling."""

import asyncio
import contextlib
import threading
import time

import grpc
import pytest

from shoppable.client import DecoderClient as AsyncDecoderClient
from shoppable.client import open_channel as open_async_channel
from shoppable.client.sync import DecoderClient, ShoppableError, open_channel
from shoppable.runtime.errors import InvalidRequestError, UnavailableError, Violation
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc
from support.scripted import scripted

CONFIG = frame_decoder_pb2.DecodeFramesConfig()
URI = common_pb2.VideoSource(uri="file:///film.mp4")


class Told(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Fails so many times, then answers; notes what it sees."""

    def __init__(self) -> None:
        self.failures = 0
        self.attempts = 0
        self.bytes = 0
        self.refuse_after: int | None = None
        self.hang = False
        self.cancelled = threading.Event()
        self.metadata: dict[str, object] = {}

    async def ProbeVideo(self, request, context):
        self.attempts += 1
        self.metadata = dict(context.invocation_metadata())
        if self.attempts <= self.failures:
            raise UnavailableError("told so", reason="TOLD")
        return frame_decoder_pb2.ProbeVideoResponse(video=common_pb2.VideoInfo(codec="h264"))

    async def DecodeFrames(self, request_iterator, context):
        self.attempts += 1
        self.metadata = dict(context.invocation_metadata())
        try:
            yield frame_decoder_pb2.DecodeFramesResponse(video=common_pb2.VideoInfo(codec="h264"))
            chunks = 0
            async for request in request_iterator:
                self.bytes += len(request.chunk)
                chunks += request.WhichOneof("request") == "chunk"
                if self.refuse_after is not None and chunks >= self.refuse_after:
                    raise InvalidRequestError([Violation("config.source", "must be liked")], reason="NOT_LIKED")
            if self.hang:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        yield frame_decoder_pb2.DecodeFramesResponse(summary=frame_decoder_pb2.DecodeSummary())


@pytest.fixture
def served():
    """The servicer and its address, on a loop in another thread: the client here blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servicer = Told()
    server = scripted("FrameDecoderService", servicer)
    _, address = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(20)
    try:
        yield servicer, address
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_file_is_uploaded_whole_and_the_answers_are_iterated(served, tmp_path):
    servicer, address = served
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(1_000_000))
    with open_channel(address) as channel:
        kinds = [answer.WhichOneof("response") for answer in DecoderClient(channel).decode(film, CONFIG)]
    assert kinds == ["video", "summary"]
    assert servicer.bytes == 1_000_000


def test_a_refusal_in_the_middle_of_an_upload_arrives_whole(served):
    servicer, address = served

    def endless():
        while True:
            yield bytes(100_000)

    with open_channel(address) as channel:
        for attempt in range(20):
            servicer.refuse_after = attempt % 5 + 1
            with pytest.raises(ShoppableError) as caught:
                list(DecoderClient(channel).decode(endless(), CONFIG))
            assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NOT_LIKED")
            assert caught.value.violations[0].field == "config.source"


def test_an_error_of_the_upload_itself_reaches_who_reads_the_answers(served):
    def torn():
        yield b"some"
        raise OSError("the disk is gone")

    with open_channel(served[1]) as channel, pytest.raises(OSError, match="the disk is gone"):
        list(DecoderClient(channel).decode(torn(), CONFIG))


def test_another_thread_can_cancel_and_the_server_stops_working(served):
    servicer, address = served
    servicer.hang = True
    with open_channel(address) as channel:
        stream = DecoderClient(channel).decode("file:///film.mp4", CONFIG)
        assert next(stream).video.codec == "h264"
        threading.Timer(0.2, stream.cancel).start()
        with pytest.raises(ShoppableError) as caught:
            next(stream)
    assert caught.value.code is grpc.StatusCode.CANCELLED
    assert servicer.cancelled.wait(10)


def test_who_leaves_the_stream_early_ends_the_call(served):
    servicer, address = served
    servicer.hang = True
    with open_channel(address) as channel, DecoderClient(channel).decode("file:///film.mp4", CONFIG) as stream:
        next(stream)
    assert servicer.cancelled.wait(10)


def test_a_deadline_ends_a_stream(served):
    servicer, address = served
    servicer.hang = True
    begun_s = time.monotonic()
    with open_channel(address) as channel, pytest.raises(ShoppableError) as caught:
        list(DecoderClient(channel).decode("file:///film.mp4", CONFIG, timeout_s=0.5))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun_s >= 0.4


def test_the_service_config_retries_what_may_be_repeated_and_gives_up_in_the_end(served):
    servicer, address = served
    servicer.failures = 2
    with open_channel(address) as channel:
        assert DecoderClient(channel).probe(URI).video.codec == "h264"
        assert servicer.attempts == 3
        servicer.failures, servicer.attempts = 99, 0
        with pytest.raises(ShoppableError) as caught:
            DecoderClient(channel).probe(URI)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.retry_after_s
    assert servicer.attempts == 3


IDENTITY = {"x-api-key": "k-123", "authorization": "Bearer t-456"}


def test_key_and_token_go_with_every_call(served):
    servicer, address = served
    with open_channel(address, api_key="k-123", token="t-456") as channel:
        client = DecoderClient(channel)
        client.probe(URI)
        assert servicer.metadata.items() >= IDENTITY.items()
        servicer.metadata = {}
        list(client.decode("file:///film.mp4", CONFIG))
        assert servicer.metadata.items() >= IDENTITY.items()


async def test_key_and_token_go_with_every_call_of_the_asynchronous_client():
    servicer = Told()
    async with (
        scripted("FrameDecoderService", servicer) as (_, address),
        open_async_channel(address, api_key="k-123", token="t-456") as channel,
    ):
        client = AsyncDecoderClient(channel)
        await client.probe(URI)
        assert servicer.metadata.items() >= IDENTITY.items()
        servicer.metadata = {}
        async with contextlib.aclosing(client.decode("file:///film.mp4", CONFIG)) as answers:
            assert [answer.WhichOneof("response") async for answer in answers] == ["video", "summary"]
        assert servicer.metadata.items() >= IDENTITY.items()
