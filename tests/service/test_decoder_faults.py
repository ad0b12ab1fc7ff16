"""What the decoder does with bad input, damaged files, and readers that are slow or gone."""

import asyncio
import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from shoppable.v1 import common_pb2, frame_decoder_pb2
from support import videos
from support.decoder_calls import (
    Decoder,
    chunks_of,
    config,
    pixels_of,
    refusal_of,
    requests,
    running_decoder,
)
from support.videos import Clip, encode, number_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FILM = encode(Clip())
Source = common_pb2.VideoSource
Request = frame_decoder_pb2.DecodeFramesRequest
SECONDS = Duration(seconds=1)


@pytest.fixture
async def decoder(tmp_path):
    async with running_decoder(tmp_path, max_pixels=1920 * 1080, max_upload_bytes=1_000_000) as decoder:
        yield decoder
        # Whatever the test did, the decoder still serves.
        assert len((await decoder.decode(FILM)).frames) == 15
        await until(lambda: not open_media())


async def until(holds: Callable[[], bool], limit_s: float = 5) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends, f"still not so after {limit_s} s"
        await asyncio.sleep(0.005)


_before: set[str] = set()


@pytest.fixture(autouse=True)
def _remember_open_files():
    """Other tests, and pytest itself, hold temporary files as well."""
    _before.clear()
    _before.update(open_media())


def open_media() -> list[str]:
    """Return the media files and temporary files that this process has opened during the test and not closed."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.endswith((".mp4", " (deleted)")) and target not in _before:
            found.append(target)
    return found


async def rest_of(call) -> list[frame_decoder_pb2.DecodeFramesResponse]:
    responses = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


def film_with(**options: object) -> bytes:
    return encode(Clip(**options))


NOT_VIDEOS = {
    "text": b"this is no video at all, but it is long enough to be looked at by each demuxer" * 20,
    "random bytes": np.random.default_rng(1).bytes(50_000),
    "a start of an mp4": FILM[:100],
    "an mp4 without its index": encode(Clip(index_first=False))[:3000],
    "ffconcat": b"ffconcat version 1.0\nfile canary.mp4\nfile 'canary.mp4'\n",
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ncanary.ts\n#EXTINF:9,\ncanary.mp4\n#EXT-X-ENDLIST\n",
    "an sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    **{name: (functools.partial(bytes, data), "NOT_A_VIDEO") for name, data in NOT_VIDEOS.items()},
    "a video of no length": (lambda: encode(Clip(frames=0)), "NOT_A_VIDEO"),
    "a matroska of no length": (lambda: encode(Clip(frames=0, container="matroska")), "NOT_A_VIDEO"),
    "sound only": (videos.sound_only, "NO_VIDEO_STREAM"),
    "a cover only": (videos.cover_only, "NO_VIDEO_STREAM"),
    "a codec that is not allowed": (lambda: encode(Clip(codec="ffv1", container="matroska")), "UNSUPPORTED_CODEC"),
    "a codec that nobody knows": (lambda: FILM.replace(b"avc1", b"zzzz"), "UNSUPPORTED_CODEC"),
    "huge frames": (videos.bomb, "PIXEL_LIMIT"),
    "no frame that can be decoded": (lambda: videos.damage(FILM, range(30)), "NO_FRAMES"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_good_video_is_refused_by_both_calls_and_all_ways_in(decoder: Decoder, tmp_path, name):
    make, reason = REFUSED[name]
    data = make()
    (tmp_path / "file.mp4").write_bytes(data)
    uri = Source(uri=f"file://{tmp_path}/file.mp4")
    for decoded in (await decoder.try_decode(data), await decoder.try_decode(uri), await decoder.upload(data)):
        refusal = refusal_of(decoded.error)
        assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, reason, ("config.source",))
        assert decoded.video is None
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decoder.probe(data)
    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, reason, ("source",))


async def test_a_refusal_for_size_tells_the_limit_and_the_value(decoder: Decoder):
    refusal = refusal_of((await decoder.try_decode(videos.bomb(2048))).error)
    assert refusal.metadata == {"limit": str(1920 * 1080), "value": str(2048 * 2048)}


async def test_a_header_that_hides_the_size_of_its_frames_is_refused(decoder: Decoder):
    """The container says 64 x 64, the codec's own header 8192 x 8192."""
    file = videos.bomb()
    lying = file.replace((8192).to_bytes(2) * 2, (64).to_bytes(2) * 2)
    assert lying != file
    assert refusal_of((await decoder.try_decode(lying)).error).code == INVALID


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
async def test_frames_that_grow_beyond_the_limit_end_the_call(codec):
    """In MPEG-TS a second film may follow the first."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    small, large = (
        film_with(container="mpegts", codec=codec, rate=25, frames=20, size=size, options=options)
        for size in ((192, 128), (640, 480))
    )
    async with running_decoder(max_pixels=320 * 240) as decoder:
        decoded = await decoder.try_decode(small + large, every_nth_frame=1)
    assert 15 <= len(decoded.frames) <= 20
    refusal = refusal_of(decoded.error)
    assert (refusal.code, refusal.reason) == (INVALID, "PIXEL_LIMIT")
    assert refusal.metadata["limit"] == str(320 * 240)
    assert refusal.metadata.get("value", str(640 * 480)) == str(640 * 480)  # MPEG-2's decoder does not tell


async def test_frames_that_grow_within_the_limit_are_sent(decoder: Decoder):
    small, large = (film_with(container="mpegts", frames=20, size=size) for size in ((192, 128), (640, 480)))
    decoded = await decoder.decode(small + large, every_nth_frame=1)
    sizes = {(frame.image.width, frame.image.height) for frame in decoded.frames}
    assert sizes <= {(192, 128), (640, 480)}


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
@pytest.mark.parametrize("end_time", [None, 2.0])
async def test_a_frame_with_a_wild_time_is_left_out_and_suppresses_no_other(decoder: Decoder, container, end_time):
    film = film_with(container=container, b_frames=0, wild={12: 36_000})
    decoded = await decoder.decode(film, every_nth_frame=1, **({"end_time": end_time} if end_time else {}))
    expected = [number for number in range(30) if number != 12 and (end_time is None or number < 20)]
    assert [number_of(pixels_of(frame)) for frame in decoded.frames] == expected
    assert decoded.summary.end_time.seconds <= 3


async def test_a_long_still_is_no_wild_time(decoder: Decoder):
    times = [0, 100, 60_000, 60_100, 200_000]
    decoded = await decoder.decode(film_with(container="matroska", times_ms=times, frames=5), every_nth_frame=1)
    assert decoded.times == [time / 1000 for time in times]


async def test_a_video_that_is_too_long_is_refused():
    async with running_decoder(max_duration_s=2) as decoder:
        stated = await decoder.try_decode(FILM)
        assert refusal_of(stated.error).reason == "DURATION_LIMIT"
        assert refusal_of(stated.error).metadata == {"limit": "2", "value": "3"}
        unstated = film_with(container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}, frames=60)
        found_out = await decoder.try_decode(unstated, every_nth_frame=1)
        assert refusal_of(found_out.error).reason == "DURATION_LIMIT"


# Opened files

OPENED: list[str] = []
WATCHING = threading.Event()


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if WATCHING.is_set() and event == "open" and isinstance(arguments[0], str):
        OPENED.append(arguments[0])


sys.addaudithook(_record)  # for good: hooks cannot be removed


@pytest.mark.parametrize("name", ["ffconcat", "a playlist"])
async def test_a_file_that_names_others_opens_none_of_them(decoder: Decoder, tmp_path, monkeypatch, name):
    """Python's own opening is seen by the audit hook, FFmpeg's by the time of the canary's last access."""
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / "canary.mp4"
    canary.write_bytes(FILM)
    long_ago = 1_000_000_000
    os.utime(canary, (long_ago, long_ago))
    (tmp_path / "list.mp4").write_bytes(NOT_VIDEOS[name])
    OPENED.clear()
    WATCHING.set()
    try:
        await decoder.try_decode(NOT_VIDEOS[name])
        await decoder.try_decode(Source(uri=f"file://{tmp_path}/list.mp4"))
    finally:
        WATCHING.clear()
    assert canary.stat().st_atime == long_ago
    assert not [path for path in OPENED if "canary" in path]


# Requests

BAD_CONFIGS = {
    "no source": (config(Source()), ["config.source"]),
    "an empty video": (config(b""), ["config.source.inline_bytes"]),
    "another scheme": (config(Source(uri="https://example.com/a.mp4")), ["config.source.uri"]),
    "negative start": (config(FILM, start_time=Duration(seconds=-1)), ["config.start_time"]),
    "negative nanos": (config(FILM, end_time=Duration(nanos=-1)), ["config.end_time"]),
    "end before start": (config(FILM, start_time=2.0, end_time=1.0), ["config.end_time"]),
    "end at start": (config(FILM, start_time=SECONDS, end_time=SECONDS), ["config.end_time"]),
    "end at zero": (config(FILM, end_time=Duration()), ["config.end_time"]),
    "no rate": (config(FILM, frames_per_second=0.0), ["config.sampling.frames_per_second"]),
    "a rate that is no number": (config(FILM, frames_per_second=float("nan")), ["config.sampling.frames_per_second"]),
    "an endless rate": (config(FILM, frames_per_second=float("inf")), ["config.sampling.frames_per_second"]),
    "every 0th": (config(FILM, every_nth_frame=0), ["config.sampling.every_nth_frame"]),
    "every 100001st": (config(FILM, every_nth_frame=100_001), ["config.sampling.every_nth_frame"]),
    "no side": (config(FILM, longest_side=0), ["config.longest_side"]),
    "a long side": (config(FILM, longest_side=8193), ["config.longest_side"]),
    "png": (config(FILM, output_format=common_pb2.IMAGE_FORMAT_PNG), ["config.output_format"]),
    "an unknown format": (config(FILM, output_format=99), ["config.output_format"]),
    "no quality": (config(FILM, jpeg_quality=0), ["config.jpeg_quality"]),
    "an upload of nothing": (
        config(Source(upload=common_pb2.VideoUpload(total_bytes=0))),
        ["config.source.upload.total_bytes"],
    ),
    "an upload too large": (
        config(Source(upload=common_pb2.VideoUpload(total_bytes=1_000_001))),
        ["config.source.upload.total_bytes"],
    ),
    "everything at once": (
        config(
            Source(uri="ftp://x/y"),
            frames_per_second=500,
            start_time=Duration(seconds=-3),
            longest_side=3,
            jpeg_quality=101,
            output_format=common_pb2.IMAGE_FORMAT_WEBP,
        ),
        [
            "config.jpeg_quality",
            "config.longest_side",
            "config.output_format",
            "config.sampling.frames_per_second",
            "config.source.uri",
            "config.start_time",
        ],
    ),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
async def test_a_bad_config_is_refused_with_every_violation(decoder: Decoder, name):
    bad, fields = BAD_CONFIGS[name]
    refusal = refusal_of((await decoder.converse(requests(bad))).error)
    assert (refusal.code, refusal.reason, list(refusal.fields)) == (INVALID, "INVALID_REQUEST", fields)


async def test_inline_bytes_over_the_limit_are_refused():
    async with running_decoder(max_inline_bytes=1000) as decoder:
        refusal = refusal_of((await decoder.try_decode(FILM)).error)
        assert (refusal.code, refusal.fields) == (INVALID, ("config.source.inline_bytes",))


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (Source(), "source"),
        (Source(inline_bytes=b""), "source.inline_bytes"),
        (Source(uri="concat:a|b"), "source.uri"),
        (Source(upload=common_pb2.VideoUpload()), "source.upload"),
    ],
)
async def test_a_probe_without_a_good_source_is_refused(decoder: Decoder, source, field):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decoder.probe(source)
    assert (refusal_of(caught.value).code, refusal_of(caught.value).fields) == (INVALID, (field,))


async def send(*messages: Request):
    for message in messages:
        yield message


WRONG_ORDERS = {
    "nothing": ([], "config"),
    "an empty message first": ([Request()], "config"),
    "a chunk first": ([Request(chunk=b"x"), Request(config=config(FILM))], "config"),
    "two configs": (
        [Request(config=config(Source(upload=common_pb2.VideoUpload()))), Request(config=config(FILM))],
        "config",
    ),
    "an empty message later": ([Request(config=config(Source(upload=common_pb2.VideoUpload()))), Request()], "request"),
}


@pytest.mark.parametrize("name", WRONG_ORDERS)
async def test_messages_in_the_wrong_order_are_refused(decoder: Decoder, name):
    messages, field = WRONG_ORDERS[name]
    refusal = refusal_of((await decoder.converse(send(*messages))).error)
    assert (refusal.code, refusal.fields) == (INVALID, (field,))


@pytest.mark.parametrize(("extra", "field"), [(Request(chunk=b"x"), "chunk"), (Request(config=config(FILM)), "config")])
async def test_more_messages_than_the_config_are_refused_if_nothing_is_uploaded(decoder: Decoder, extra, field):
    long = film_with(frames=400, size=(640, 480), options={"preset": "ultrafast"})
    call = decoder.stub.DecodeFrames(timeout=20)
    await call.write(Request(config=config(long, every_nth_frame=1)))
    await call.read()
    await call.write(extra)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest_of(call)
    assert refusal_of(caught.value).fields == (field,)


@pytest.mark.parametrize(("total", "reason"), [(len(FILM) + 1, "SIZE_MISMATCH"), (len(FILM) - 1, "SIZE_MISMATCH")])
async def test_an_upload_of_another_size_than_announced_is_refused(decoder: Decoder, total, reason):
    refusal = refusal_of((await decoder.upload(FILM, total_bytes=total)).error)
    assert (refusal.code, refusal.reason) == (INVALID, reason)
    assert refusal.fields == ("config.source.upload.total_bytes",)


async def test_an_upload_over_the_limit_is_refused_before_it_ends(decoder: Decoder):
    refusal = refusal_of((await decoder.upload(bytes(1_300_000))).error)
    assert (refusal.code, refusal.reason, refusal.metadata["limit"]) == (INVALID, "SIZE_LIMIT", "1000000")


async def test_an_empty_upload_is_refused(decoder: Decoder):
    refusal = refusal_of((await decoder.upload(b"")).error)
    assert (refusal.code, refusal.reason) == (INVALID, "NOT_A_VIDEO")


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/none.mp4", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("/../secret", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("/%2e%2e/secret", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("/link", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("", INVALID, "NOT_A_FILE"),
        ("/pipe", INVALID, "NOT_A_FILE"),
    ],
)
async def test_a_path_that_cannot_be_read_has_its_own_error(tmp_path, path, code, reason):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(FILM)
    (root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    async with running_decoder(root) as decoder:
        refusal = refusal_of((await decoder.try_decode(Source(uri=f"file://{root}{path}"))).error)
        assert (refusal.code, refusal.reason) == (code, reason)


# Damage


async def test_damaged_packets_are_skipped_and_counted(decoder: Decoder):
    file = videos.damage(film_with(frames=60, b_frames=0, gop=10), [25, 43])
    decoded = await decoder.decode(file, every_nth_frame=1)
    assert decoded.summary.damaged_packets == 2
    sent = {
        round(time_s * 10): number_of(pixels_of(frame))
        for time_s, frame in zip(decoded.times, decoded.frames, strict=True)
    }
    assert not {25, 43} & set(sent)
    # Up to the next key frame, frames that build on the damaged one may look like those before.
    healthy = [number for number in range(60) if not 25 <= number < 30 and not 43 <= number < 50]
    assert {number: sent[number] for number in healthy} == {number: number for number in healthy}


@pytest.mark.parametrize("share", [0.5, 0.8])
async def test_an_mp4_that_is_cut_gives_its_frames_and_then_data_loss(decoder: Decoder, share):
    file = film_with(frames=100)
    decoded = await decoder.try_decode(file[: int(len(file) * share)], every_nth_frame=1)
    assert [number_of(pixels_of(frame)) for frame in decoded.frames] == list(range(len(decoded.frames)))
    assert 0 < len(decoded.frames) < 100
    assert decoded.summary is None
    refusal = refusal_of(decoded.error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "BROKEN_VIDEO")


async def test_a_cut_behind_the_asked_span_does_no_harm(decoder: Decoder):
    file = film_with(frames=100)
    decoded = await decoder.decode(file[: int(len(file) * 0.8)], every_nth_frame=1, end_time=1.0)
    assert len(decoded.frames) == 10
    assert not decoded.summary.truncated


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
async def test_a_stream_that_is_cut_gives_its_frames_and_says_truncated(decoder: Decoder, container):
    file = film_with(frames=100, container=container)
    cut = file[: len(file) // 2 // 188 * 188 + 100]
    decoded = await decoder.decode(cut, every_nth_frame=1)
    assert 0 < len(decoded.frames) < 100
    assert decoded.summary.truncated
    # The packets of the last frames are not in the order of their times, so a frame before the last may be missing.
    sent = [number_of(pixels_of(frame)) for frame in decoded.frames]
    assert sent == [round(time_s * 10) for time_s in decoded.times]
    assert sent[:-3] == list(range(len(sent) - 3))


# Readers


def decoded_frames() -> int:
    from shoppable.runtime import metrics

    return int(metrics.FRAMES_SENT._value.get())


LONG = Clip(frames=600, size=(640, 480), gop=30, options={"preset": "ultrafast"})


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
async def test_a_call_that_is_given_up_stops_decoding_and_lets_go_of_its_file(long_file, ending):
    async with running_decoder(long_file.parent, max_streams=1) as decoder:
        # 100 copies' worth of work if it went on: one frame is wanted of all.
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


async def test_a_call_that_is_given_up_between_two_frames_far_apart_stops_too(long_file):
    async with running_decoder(long_file.parent, max_streams=1) as decoder:
        wanted = config(Source(uri=f"file://{long_file}"), frames_per_second=0.01)
        call = decoder.stub.DecodeFrames(requests(wanted), timeout=20)
        await call.read()
        call.cancel()
        await until(lambda: not open_media(), limit_s=1)


async def test_a_reader_that_takes_nothing_is_cut_off(long_file):
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


async def test_an_upload_that_is_given_up_leaves_no_file(tmp_path):
    begun = film_with(index_first=False)[:5000]  # one that has to be stored
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


async def test_a_busy_decoder_says_when_to_come_back(long_file):
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


async def test_more_streams_than_threads_all_get_on(long_file):
    async with running_decoder(long_file.parent, workers=1) as decoder:
        source = Source(uri=f"file://{long_file}")
        calls = [decoder.decode(source, frames_per_second=1, longest_side=64) for _ in range(6)]
        for decoded in await asyncio.gather(*calls):
            assert len(decoded.frames) == 60


async def test_no_thread_stays_behind():
    before = threading.active_count()
    async with running_decoder() as decoder:
        await decoder.decode(FILM)
    gc.collect()
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("decode")])
    assert threading.active_count() <= before + 3  # gRPC's and asyncio's own


async def test_an_upload_that_comes_in_crumbs_is_put_together(decoder: Decoder):
    source = Source(upload=common_pb2.VideoUpload(total_bytes=len(FILM)))
    decoded = await decoder.converse(requests(config(source), chunks_of(FILM, 37)))
    assert len(decoded.frames) == 15
