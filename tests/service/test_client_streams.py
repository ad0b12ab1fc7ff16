"""How a bidirectional call ended reaches the caller, also when the server ends it in the middle of an upload."""

import contextlib

import grpc
import pytest

from shoppable.client import DecoderClient, ShoppableError, open_channel
from shoppable.client.streams import call_stream
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.interceptors import outgoing
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc
from support.scripted import scripted


class Choosy(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Refuses a video after so many chunks."""

    def __init__(self) -> None:
        self.after = 0

    async def DecodeFrames(self, request_iterator, context):
        chunks = 0
        async for request in request_iterator:
            chunks += request.WhichOneof("request") == "chunk"
            if chunks >= self.after:
                raise InvalidRequestError([Violation("config.source", "must be liked")], reason="NOT_LIKED")
        yield frame_decoder_pb2.DecodeFramesResponse()


async def endless_upload():
    while True:
        yield bytes(100_000)


@contextlib.asynccontextmanager
async def connected(servicer: frame_decoder_pb2_grpc.FrameDecoderServiceServicer, interceptors):
    async with (
        scripted("FrameDecoderService", servicer) as (_, address),
        open_channel(address, interceptors=interceptors) as own,
    ):
        yield DecoderClient(own)


both_ways = pytest.mark.parametrize("interceptors", [(), outgoing()], ids=["plain", "as the orchestrator calls"])


class Garbled(grpc.GenericRpcHandler):
    """Answers every call with bytes that are no message."""

    def service(self, details):
        async def one(request, context):
            return b"\xff"

        async def many(requests, context):
            yield b"\xff"

        if details.method.endswith("/ProbeVideo"):
            return grpc.unary_unary_rpc_method_handler(one)
        return grpc.stream_stream_rpc_method_handler(many)


@both_ways
async def test_an_answer_that_cannot_be_read_is_an_error_and_not_none(interceptors):
    source, config = common_pb2.VideoSource(uri="file:///film.mp4"), frame_decoder_pb2.DecodeFramesConfig()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Garbled()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}", interceptors=interceptors) as channel:
            client = DecoderClient(channel)
            for ask in (
                client.probe(source),
                anext(client.decode(source.uri, config, timeout_s=5)),
            ):
                with pytest.raises(ShoppableError) as caught:
                    await ask
                assert (caught.value.code, caught.value.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "UNREADABLE_ANSWER",
                )
    finally:
        await server.stop(None)


class Hungry(grpc.GenericRpcHandler):
    """Keeps what it is sent by any call."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def service(self, details):
        async def one(requests, context):
            self.got += [request async for request in requests]
            return b"answer"

        async def many(requests, context):
            async for request in requests:
                self.got.append(request)
                yield b"answer"

        if details.method.endswith("Unary"):
            return grpc.stream_unary_rpc_method_handler(one)
        return grpc.stream_stream_rpc_method_handler(many)


def written(request: bytes) -> bytes:
    if request == b"large":
        raise MemoryError
    return request


async def given(*requests):
    for request in requests:
        yield request


@both_ways
async def test_a_request_that_cannot_be_written_is_an_error_and_sends_nothing(interceptors):
    server, hungry = grpc.aio.server(), Hungry()
    server.add_generic_rpc_handlers([hungry])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def last_of_stream(requests):
        return [answer async for answer in call_stream(stream_stream, requests, timeout_s=5)][-1]

    try:
        async with open_channel(f"127.0.0.1:{port}", interceptors=interceptors) as channel:
            unary_unary = channel.unary_unary("/any/UnaryUnary", written)
            unary_stream = channel.unary_stream("/any/UnaryStream", written)
            stream_stream = channel.stream_stream("/any/StreamStream", request_serializer=written)
            for ask in (
                lambda request: unary_unary(request, timeout=5),
                lambda request: unary_stream(request, timeout=5).read(),
                lambda request: last_of_stream(given(b"small", request)),
            ):
                with pytest.raises(ShoppableError) as caught:
                    await ask(b"large")
                assert (caught.value.code, caught.value.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "UNWRITABLE_REQUEST",
                )
                assert await ask(b"small") == b"answer"
    finally:
        await server.stop(None)
    assert set(hungry.got) == {b"small"}


@both_ways
async def test_a_refusal_in_the_middle_of_an_upload_arrives_whole(interceptors):
    servicer = Choosy()
    async with connected(servicer, interceptors) as client:
        for attempt in range(60):
            servicer.after = attempt % 6
            with pytest.raises(ShoppableError) as caught:
                async for _ in client.decode(endless_upload(), frame_decoder_pb2.DecodeFramesConfig()):
                    pass
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.reason == "NOT_LIKED"
            assert caught.value.violations[0].field == "config.source"


class Content(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Has seen enough of a video after so many chunks."""

    def __init__(self) -> None:
        self.after = 0

    async def DecodeFrames(self, request_iterator, context):
        chunks = 0
        async for request in request_iterator:
            chunks += request.WhichOneof("request") == "chunk"
            if chunks >= self.after:
                break
        yield frame_decoder_pb2.DecodeFramesResponse(summary=frame_decoder_pb2.DecodeSummary(frames_sent=7))


@both_ways
async def test_a_good_end_in_the_middle_of_an_upload_is_no_error(interceptors):
    servicer = Content()
    async with connected(servicer, interceptors) as client:
        for attempt in range(60):
            servicer.after = attempt % 6
            upload = client.decode(endless_upload(), frame_decoder_pb2.DecodeFramesConfig())
            assert [response.summary.frames_sent async for response in upload] == [7]


@both_ways
async def test_an_error_of_the_upload_itself_reaches_who_reads_the_answers(interceptors):
    async def torn():
        yield b"some"
        raise OSError("the disk is gone")

    servicer = Choosy()
    servicer.after = 10
    async with connected(servicer, interceptors) as client:
        with pytest.raises(OSError, match="the disk is gone"):
            async for _ in client.decode(torn(), frame_decoder_pb2.DecodeFramesConfig()):
                pass
