"""What is left of a damaged file is sent, and what is not is told."""

import grpc
import pytest

from support import videos
from support.decoder_calls import Decoder, pixels_of, refusal_of
from support.decoder_resources import tidy_decoder
from support.videos import Clip, encode, number_of


@pytest.fixture
async def decoder(tmp_path):
    async with tidy_decoder(tmp_path) as decoder:
        yield decoder


async def test_damaged_packets_are_skipped_and_counted(decoder: Decoder):
    file = videos.damage(encode(Clip(frames=60, b_frames=0, gop=10)), [25, 43])
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
    file = encode(Clip(frames=100))
    decoded = await decoder.try_decode(file[: int(len(file) * share)], every_nth_frame=1)
    assert [number_of(pixels_of(frame)) for frame in decoded.frames] == list(range(len(decoded.frames)))
    assert 0 < len(decoded.frames) < 100
    assert decoded.summary is None
    refusal = refusal_of(decoded.error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "BROKEN_VIDEO")


async def test_a_cut_behind_the_asked_span_does_no_harm(decoder: Decoder):
    file = encode(Clip(frames=100))
    decoded = await decoder.decode(file[: int(len(file) * 0.8)], every_nth_frame=1, end_time=1.0)
    assert len(decoded.frames) == 10
    assert not decoded.summary.truncated


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
async def test_a_stream_that_is_cut_gives_its_frames_and_says_truncated(decoder: Decoder, container):
    file = encode(Clip(frames=100, container=container))
    cut = file[: len(file) // 2 // 188 * 188 + 100]
    decoded = await decoder.decode(cut, every_nth_frame=1)
    assert 0 < len(decoded.frames) < 100
    assert decoded.summary.truncated
    # The packets of the last frames are not in the order of their times, so a frame before the last may be missing.
    sent = [number_of(pixels_of(frame)) for frame in decoded.frames]
    assert sent == [round(time_s * 10) for time_s in decoded.times]
    assert sent[:-3] == list(range(len(sent) - 3))


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
@pytest.mark.parametrize("end_time", [None, 2.0])
async def test_a_frame_with_a_wild_time_is_left_out_and_suppresses_no_other(decoder: Decoder, container, end_time):
    film = encode(Clip(container=container, b_frames=0, wild={12: 36_000}))
    decoded = await decoder.decode(film, every_nth_frame=1, **({"end_time": end_time} if end_time else {}))
    expected = [number for number in range(30) if number != 12 and (end_time is None or number < 20)]
    assert [number_of(pixels_of(frame)) for frame in decoded.frames] == expected
    assert decoded.summary.end_time.seconds <= 3


async def test_a_long_still_is_no_wild_time(decoder: Decoder):
    times = [0, 100, 60_000, 60_100, 200_000]
    decoded = await decoder.decode(encode(Clip(container="matroska", times_ms=times, frames=5)), every_nth_frame=1)
    assert decoded.times == [time / 1000 for time in times]
