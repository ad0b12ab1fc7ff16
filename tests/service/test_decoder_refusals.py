"""Files that are no good video are refused: each for its own reason, whichever way they come."""

import functools
import os
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from shoppable.v1 import common_pb2
from support import videos
from support.decoder_calls import Decoder, refusal_of, running_decoder
from support.decoder_resources import tidy_decoder
from support.videos import Clip, encode

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FILM = encode(Clip())
Source = common_pb2.VideoSource


@pytest.fixture
async def decoder(tmp_path):
    async with tidy_decoder(tmp_path, max_pixels=1920 * 1080, max_upload_bytes=1_000_000) as decoder:
        yield decoder


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
        encode(Clip(container="mpegts", codec=codec, rate=25, frames=20, size=size, options=options))
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
    small, large = (encode(Clip(container="mpegts", frames=20, size=size)) for size in ((192, 128), (640, 480)))
    decoded = await decoder.decode(small + large, every_nth_frame=1)
    sizes = {(frame.image.width, frame.image.height) for frame in decoded.frames}
    assert sizes <= {(192, 128), (640, 480)}


async def test_a_video_that_is_too_long_is_refused():
    async with running_decoder(max_duration_s=2) as decoder:
        stated = await decoder.try_decode(FILM)
        assert refusal_of(stated.error).reason == "DURATION_LIMIT"
        assert refusal_of(stated.error).metadata == {"limit": "2", "value": "3"}
        unstated = encode(Clip(container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}, frames=60))
        found_out = await decoder.try_decode(unstated, every_nth_frame=1)
        assert refusal_of(found_out.error).reason == "DURATION_LIMIT"


@pytest.mark.parametrize("name", ["ffconcat", "a playlist"])
async def test_a_file_that_names_others_opens_none_of_them(decoder: Decoder, tmp_path, monkeypatch, name):
    """It would be seen by the time of the canary's last access."""
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / "canary.mp4"
    canary.write_bytes(FILM)
    long_ago = 1_000_000_000
    os.utime(canary, (long_ago, long_ago))
    (tmp_path / "list.mp4").write_bytes(NOT_VIDEOS[name])
    await decoder.try_decode(NOT_VIDEOS[name])
    await decoder.try_decode(Source(uri=f"file://{tmp_path}/list.mp4"))
    assert canary.stat().st_atime == long_ago
