"""Uploads that are decoded while they arrive: the same frames as from a file, as soon as they can be had."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from load.decoder_mutations import ALLOWED, mutations
from shoppable.v1 import common_pb2, frame_decoder_pb2
from support.decoder_calls import Decoder, chunks_of, config, pixels_of, refusal_of, requests, running_decoder
from support.videos import Clip, encode, number_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Request = frame_decoder_pb2.DecodeFramesRequest
VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
STREAMED = {
    "an mp4 with its index first": Clip(frames=120),
    "an mp4 in fragments": Clip(frames=120, container_options=FRAGMENTS),
    "mpegts": Clip(frames=120, container="mpegts"),
    "matroska": Clip(frames=120, container="matroska"),
    "webm": Clip(frames=120, container="webm", **VP9),
}
COLLECTED = {
    "an mp4 with its index last": Clip(frames=120, index_first=False),
    "avi": Clip(frames=120, container="avi", codec="mpeg4", options={"qscale": "3"}),
    "gif": Clip(frames=30, container="gif", codec="gif", pixel_format="rgb8"),
}
FILES = {name: encode(clip) for name, clip in (STREAMED | COLLECTED).items()}
ORDERS = (
    {"every_nth_frame": 1},
    {"frames_per_second": 3},
    {"keyframes_only": {}},
    {"scenes": {}},
    {"timestamps": [0.33, 0.9, 2.41, 2.42, 11.3]},
    {"every_nth_frame": 3, "start_time": 2.2, "end_time": 9.0},
    {"frames_per_second": 2, "start_time": 0.05},
    {"every_nth_frame": 1, "end_time": 1.0},
)


async def rest_of(call) -> list[frame_decoder_pb2.DecodeFramesResponse]:
    responses = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


def live(**options: object) -> frame_decoder_pb2.DecodeFramesConfig:
    return config(common_pb2.VideoSource(upload=common_pb2.VideoUpload(live=True)), **options)


def uploading(total: int | None = None, **options: object) -> frame_decoder_pb2.DecodeFramesConfig:
    return config(common_pb2.VideoSource(upload=common_pb2.VideoUpload(total_bytes=total)), **options)


def frames_of(decoded) -> list[tuple[int, float, str]]:
    assert decoded.error is None
    digests = [hashlib.sha256(frame.image.data).hexdigest() for frame in decoded.frames]
    return list(zip([frame.index for frame in decoded.frames], decoded.times, digests, strict=True))


@pytest.mark.parametrize("name", FILES)
def test_an_upload_in_pieces_of_any_size_gives_the_frames_of_the_file(name):
    file = FILES[name]

    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        cuts=st.lists(st.integers(1, len(file) - 1), max_size=40, unique=True).map(sorted),
        waits=st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.01]), min_size=41, max_size=41),
        order=st.sampled_from(ORDERS),
        announced=st.booleans(),
        window=st.sampled_from([1, 5000, 2**22]),
    )
    def holds(cuts, waits, order, announced, window):
        async def messages() -> AsyncIterator[Request]:
            yield Request(config=uploading(len(file) if announced else None, **order))
            for start, end, wait_s in zip([0, *cuts], [*cuts, len(file)], waits, strict=False):
                yield Request(chunk=file[start:end])
                await asyncio.sleep(wait_s)

        async def compare():
            async with running_decoder(upload_window_bytes=window) as decoder:
                arrived = await decoder.converse(messages())
                whole = await decoder.decode(file, **order)
            assert frames_of(arrived) == frames_of(whole)
            assert len(whole.frames) > 0
            assert arrived.summary == whole.summary

        asyncio.run(compare())

    holds()


@pytest.mark.parametrize("live_upload", [False, True])
@pytest.mark.parametrize("name", STREAMED)
async def test_the_first_frame_leaves_before_the_last_chunk_comes(name, live_upload, tmp_path):
    file = FILES[name]
    opening = live(every_nth_frame=1) if live_upload else uploading(every_nth_frame=1)
    async with running_decoder(spool_bytes=0, scratch_dir=tmp_path / "none") as decoder:
        call = decoder.stub.DecodeFrames(timeout=20)
        await call.write(Request(config=opening))
        for chunk in chunks_of(file[:-2000], 5000):
            await call.write(Request(chunk=chunk))
        assert (await call.read()).HasField("video")
        frames = [(await call.read()).frame for _ in range(10)]
        assert [number_of(pixels_of(frame)) for frame in frames] == list(range(10))
        await call.write(Request(chunk=file[-2000:]))
        await call.done_writing()
        rest = await rest_of(call)
        assert rest[-1].summary.frames_sent == 120
        assert not rest[-1].summary.truncated


async def test_an_mp4_with_its_index_last_waits_for_all_of_it():
    file = FILES["an mp4 with its index last"]
    async with running_decoder() as decoder:
        call = decoder.stub.DecodeFrames(timeout=20)
        await call.write(Request(config=uploading(every_nth_frame=1)))
        await call.write(Request(chunk=file[:-1]))
        first = asyncio.ensure_future(call.read())
        await asyncio.sleep(0.3)
        assert not first.done()
        await call.write(Request(chunk=file[-1:]))
        await call.done_writing()
        assert (await first).HasField("video")
        assert len(await rest_of(call)) == 121


async def test_what_is_not_known_yet_is_not_said():
    async with running_decoder() as decoder:
        arrived = await decoder.upload(FILES["mpegts"])
        announced = await decoder.upload(FILES["mpegts"], total_bytes=len(FILES["mpegts"]))
    assert not arrived.video.HasField("size_bytes")
    assert not arrived.video.HasField("duration")
    assert announced.video.size_bytes == len(FILES["mpegts"])


# Faults


async def cut_short(decoder: Decoder, opening: frame_decoder_pb2.DecodeFramesConfig, file: bytes):
    """Upload in one chunk and leave the call open: gRPC may lose the status of a call that ends during a write."""

    async def messages():
        async for request in requests(opening, [file]):
            yield request
        await asyncio.Event().wait()

    return await decoder.converse(messages())


async def after(decoder: Decoder, opening: frame_decoder_pb2.DecodeFramesConfig, file: bytes):
    return await decoder.converse(requests(opening, chunks_of(file, 3000)))


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("announced", [False, True])
async def test_a_client_that_stops_half_way_gets_the_frames_of_that_half(name, announced):
    file = FILES[name]
    half = file[: len(file) // 2]
    async with running_decoder() as decoder:
        decoded = await after(decoder, uploading(len(file) if announced else None, every_nth_frame=1), half)
        whole = await decoder.try_decode(half, every_nth_frame=1)
    assert 20 < len(decoded.frames) < 120
    if announced:
        refusal = refusal_of(decoded.error)
        assert (refusal.code, refusal.reason) == (INVALID, "SIZE_MISMATCH")
        assert refusal.fields == ("config.source.upload.total_bytes",)
        return
    assert abs(len(decoded.frames) - len(whole.frames)) <= 1  # FFmpeg may give what it has of the last one
    if decoded.error is not None:
        assert refusal_of(decoded.error).reason == refusal_of(whole.error).reason == "BROKEN_VIDEO"
    else:
        assert decoded.summary.truncated == whole.summary.truncated


@pytest.mark.parametrize("name", ["mpegts", "webm", "an mp4 in fragments", "an mp4 with its index first"])
async def test_more_bytes_than_announced_are_refused_after_the_frames(name):
    file = FILES[name]
    async with running_decoder() as decoder:
        decoded = await after(decoder, uploading(len(file) - 1000, every_nth_frame=1), file)
    assert len(decoded.frames) > 20
    assert refusal_of(decoded.error).reason == "SIZE_MISMATCH"
    assert decoded.summary is None


Message = Callable[[], Request]
WRONGS: dict[str, tuple[Message, str]] = {
    "a second config": (lambda: Request(config=uploading()), "config"),
    "an empty message": (Request, "request"),
}


@pytest.mark.parametrize("name", WRONGS)
async def test_a_wrong_message_after_frames_have_left_ends_the_call(name):
    message, field = WRONGS[name]

    async def messages():
        async for request in requests(uploading(every_nth_frame=1), chunks_of(FILES["mpegts"], 3000)):
            yield request
        yield message()

    async with running_decoder() as decoder:
        decoded = await decoder.converse(messages())
    assert len(decoded.frames) > 100
    assert refusal_of(decoded.error).fields == (field,)


@pytest.mark.parametrize("share", [0.01, 0.6])
async def test_a_client_that_falls_silent_is_cut_off_after_its_frames(share):
    file = FILES["matroska"]

    async def messages():
        async for request in requests(uploading(every_nth_frame=1), chunks_of(file[: int(len(file) * share)], 3000)):
            yield request
        await asyncio.Event().wait()

    async with running_decoder(upload_idle_s=0.3, max_streams=1) as decoder:
        decoded = await decoder.converse(messages())
        refusal = refusal_of(decoded.error)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_IDLE")
        assert (len(decoded.frames) > 40) == (share > 0.5)
        assert len((await decoder.decode(file)).frames) == 60


async def test_damaged_uploads_end_in_order():
    """As they are decoded while they arrive, FFmpeg cannot go back in them to where it lost its way."""
    damaged = mutations([FILES[name] for name in STREAMED], 100, seed=11)
    reasons = set()
    async with running_decoder(max_pixels=640 * 480) as decoder:
        for number, file in enumerate(damaged):
            opening = uploading(**({"every_nth_frame": 1} if number % 2 else {"keyframes_only": {}}))
            decoded = await decoder.converse(requests(opening, [file]))
            assert decoded.times == sorted(set(decoded.times))
            if decoded.error is None:
                assert decoded.summary.frames_sent == len(decoded.frames)
            else:
                assert decoded.error.code() in ALLOWED
                reasons.add(refusal_of(decoded.error).reason)
        assert len((await decoder.decode(FILES["webm"])).frames) == 60
    assert "NOT_A_VIDEO" in reasons


async def test_uploads_that_wait_hold_no_thread_that_others_need():
    async with running_decoder(max_streams=7) as decoder:
        calls = []
        for name in ("mpegts", "an mp4 with its index last") * 3:  # the latter wait before they are open
            call = decoder.stub.DecodeFrames(timeout=20)
            await call.write(Request(config=uploading()))
            await call.write(Request(chunk=FILES[name][:2000]))
            calls.append(call)
        assert len((await decoder.decode(FILES["webm"])).frames) == 60
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()


async def test_a_reader_that_stands_still_stops_an_endless_upload():
    """What gRPC, the window and the decoder hold is all that is taken."""
    film = encode(Clip(frames=50, container="mpegts", size=(640, 480)))
    taken = 0

    async def messages():
        nonlocal taken
        yield Request(config=live(every_nth_frame=1))
        while True:
            taken += len(film)
            yield Request(chunk=film)

    async with running_decoder(upload_window_bytes=100_000) as decoder:
        call = decoder.stub.DecodeFrames(messages(), timeout=30)
        assert (await call.read()).HasField("video")
        before = -1
        while before != taken:
            before = taken
            await asyncio.sleep(0.5)
        assert taken < 20_000_000
        call.cancel()


async def test_a_live_upload_has_no_limit_of_bytes_and_frames_but_one_of_seconds():
    file = FILES["mpegts"]
    limits = {"max_upload_bytes": 10_000, "max_frames": 20, "max_duration_s": 2}
    async with running_decoder(**limits) as decoder:
        decoded = await after(decoder, live(every_nth_frame=1), file)
        assert len(decoded.frames) == 120
        assert refusal_of((await cut_short(decoder, uploading(), file)).error).reason == "SIZE_LIMIT"
    async with running_decoder(**limits, max_live_s=5) as decoder:
        decoded = await cut_short(decoder, live(every_nth_frame=1), file)
    assert 45 <= len(decoded.frames) <= 51
    assert refusal_of(decoded.error).metadata["limit"] == "5"


@pytest.mark.parametrize("name", COLLECTED)
async def test_a_live_upload_that_cannot_be_decoded_as_it_comes_is_refused(name):
    async with running_decoder() as decoder:
        refusal = refusal_of((await cut_short(decoder, live(), FILES[name])).error)
    assert (refusal.code, refusal.reason) == (INVALID, "NOT_STREAMABLE")


async def test_a_live_upload_can_neither_be_announced_nor_sought():
    source = common_pb2.VideoSource(upload=common_pb2.VideoUpload(live=True, total_bytes=5))
    async with running_decoder() as decoder:
        decoded = await decoder.converse(requests(config(source, timestamps=[3.0], start_time=1.0)))
    refusal = refusal_of(decoded.error)
    assert (refusal.code, refusal.reason) == (INVALID, "INVALID_REQUEST")
    assert refusal.fields == (
        "config.sampling.timestamps",
        "config.source.upload.total_bytes",
        "config.start_time",
    )
