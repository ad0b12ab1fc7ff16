"""Readers that are slow, idle or gone; and more of them than there is room for."""

import asyncio
import gc
import threading
import time

import grpc
import pytest

from shoppable.runtime import metrics
from shoppable.v1 import common_pb2, frame_decoder_pb2
from support.decoder_calls import config, refusal_of, requests, rest_of, running_decoder
from support.decoder_resources import OpenMedia, until
from support.videos import Clip, encode

FILM = encode(Clip())
LONG = Clip(frames=600, size=(640, 480), gop=30, options={"preset": "ultrafast"})
Source = common_pb2.VideoSource
Request = frame_decoder_pb2.DecodeFramesRequest


def decoded_frames() -> int:
    return int(metrics.FRAMES_SENT._value.get())


@pytest.fixture
def open_media():
    return OpenMedia()


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    path.write_bytes(encode(LONG))
    return path


async def test_a_slow_reader_stalls_the_decoder(long_file):
    async with running_decoder(long_file.parent, frames_ahead=2) as decoder:
        before = decoded_frames()
        call = decoder.stub.DecodeFrames(requests(config(Source(uri=f"file://{long_file}"), every_nth_frame=1)))
        await call.read()
        await until(lambda: decoded_frames() > before)
        # It stands still when nothing has come for a while; 600 frames of 0.9 MB each would take about a second.
        seen, quiet_since = decoded_frames(), time.monotonic()
        while time.monotonic() - quiet_since < 0.5:
            await asyncio.sleep(0.01)
            if decoded_frames() != seen:
                seen, quiet_since = decoded_frames(), time.monotonic()
        assert seen - before < 40
        rest = await rest_of(call)
        assert rest[-1].summary.frames_sent == 600
        assert decoded_frames() - before == 600


@pytest.mark.parametrize("ending", ["cancelled", "past its deadline"])
async def test_a_call_that_is_given_up_stops_decoding_and_lets_go_of_its_file(long_file, open_media, ending):
    async with running_decoder(long_file.parent, max_streams=1) as decoder:
        wanted = config(Source(uri=f"file://{long_file}"), every_nth_frame=1)
        before = decoded_frames()
        call = decoder.stub.DecodeFrames(requests(wanted), timeout=0.2 if ending == "past its deadline" else 20)
        await call.read()
        await until(lambda: decoded_frames() > before)
        if ending == "cancelled":
            call.cancel()
        else:
            await until(lambda: call.done())
        ended = time.monotonic()
        await until(lambda: not open_media(), limit_s=2)
        assert time.monotonic() - ended < 1
        assert decoded_frames() - before < 600
        # Its place is free for another.
        assert len((await decoder.decode(FILM)).frames) == 15


async def test_a_call_that_is_given_up_between_two_frames_far_apart_stops_too(long_file, open_media):
    async with running_decoder(long_file.parent, max_streams=1) as decoder:
        wanted = config(Source(uri=f"file://{long_file}"), frames_per_second=0.01)
        call = decoder.stub.DecodeFrames(requests(wanted), timeout=20)
        await call.read()
        call.cancel()
        await until(lambda: not open_media(), limit_s=1)


async def test_a_reader_that_takes_nothing_is_cut_off(long_file, open_media):
    async with running_decoder(long_file.parent, reader_idle_s=0.3, max_streams=1) as decoder:
        source = Source(uri=f"file://{long_file}")
        call = decoder.stub.DecodeFrames(requests(config(source, every_nth_frame=1)), timeout=20)
        await call.read()
        await until(lambda: bool(open_media()))
        await until(lambda: not open_media())
        assert len((await decoder.decode(FILM)).frames) == 15
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest_of(call)
        assert refusal_of(caught.value).reason == "READER_IDLE"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_sends_nothing_is_cut_off(begun):
    async with running_decoder(upload_idle_s=0.2) as decoder:
        call = decoder.stub.DecodeFrames(timeout=20)
        if begun:
            await call.write(Request(config=config(Source(upload=common_pb2.VideoUpload()))))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest_of(call)
        assert refusal_of(caught.value).code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert refusal_of(caught.value).reason == "UPLOAD_IDLE"


async def test_an_upload_that_is_given_up_leaves_no_file(tmp_path, open_media):
    begun = encode(Clip(index_first=False))[:5000]  # one that has to be stored
    async with running_decoder(spool_bytes=10, scratch_dir=tmp_path) as decoder:

        async def half():
            async for message in requests(config(Source(upload=common_pb2.VideoUpload())), [begun]):
                yield message
            await asyncio.Event().wait()

        call = decoder.stub.DecodeFrames(half())
        await until(lambda: bool(open_media()))
        call.cancel()
        await until(lambda: not open_media())
        assert list(tmp_path.iterdir()) == []


async def test_a_busy_decoder_says_when_to_come_back(long_file, open_media):
    async with running_decoder(long_file.parent, max_streams=1) as decoder:
        call = decoder.stub.DecodeFrames(requests(config(Source(uri=f"file://{long_file}"), every_nth_frame=1)))
        await call.read()
        refused = await decoder.try_decode(FILM)
        refusal = refusal_of(refused.error)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DECODER_BUSY")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await decoder.probe(FILM)
        assert refusal_of(caught.value).reason == "DECODER_BUSY"
        call.cancel()
        await until(lambda: not open_media())
        assert len((await decoder.decode(FILM)).frames) == 15


async def test_more_streams_than_cores_all_get_on(long_file):
    async with running_decoder(long_file.parent) as decoder:
        source = Source(uri=f"file://{long_file}")
        calls = [decoder.decode(source, frames_per_second=1, longest_side=64) for _ in range(6)]
        for decoded in await asyncio.gather(*calls):
            assert len(decoded.frames) == 60


async def test_no_thread_stays_behind():
    before = threading.active_count()
    async with running_decoder() as decoder:
        await decoder.decode(FILM)
    gc.collect()
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("read")])
    assert threading.active_count() <= before + 3  # gRPC's and asyncio's own
