"""Sampling by given moments and by scenes: the right frames, without decoding what need not be."""

import numpy as np
import pytest

from shoppable.v1 import common_pb2
from support.decoder_calls import Decoder, config, duration, pixels_of, refusal_of, requests, running_decoder
from support.videos import Clip, draw, encode, number_of

CONTAINERS = ("mp4", "matroska", "mpegts", "avi")


@pytest.fixture
async def decoder(tmp_path):
    async with running_decoder(tmp_path) as decoder:
        yield decoder


def numbers(decoded) -> list[int]:
    return [number_of(pixels_of(frame)) for frame in decoded.frames]


# Moments


async def test_a_moment_means_the_frame_that_is_on_the_screen(decoder: Decoder):
    times = [0, 100, 150, 900, 1000, 1500, 1600]
    file = encode(Clip(frames=7, container="matroska", times_ms=times))
    decoded = await decoder.decode(file, timestamps=[0, 0.099, 0.5, 0.899, 0.9, 1.55])
    # Two moments on the same frame give it once.
    assert numbers(decoded) == [0, 2, 3, 5]
    assert decoded.times == [0, 0.15, 0.9, 1.5]


async def test_moments_behind_the_end_give_nothing_and_the_last_frame_lasts_until_the_end(decoder: Decoder):
    file = encode(Clip())
    assert numbers(await decoder.decode(file, timestamps=[2.95])) == [29]
    assert numbers(await decoder.decode(file, timestamps=[1, 2.95, 3.1, 50])) == [10, 29]
    assert numbers(await decoder.decode(file, timestamps=[4000])) == []


@pytest.mark.parametrize("container", CONTAINERS)
async def test_times_that_were_sent_give_the_same_frames_when_they_come_back(decoder: Decoder, container):
    codec = {"codec": "mpeg4", "options": {"qscale": "2"}} if container == "avi" else {}
    file = encode(Clip(container=container, rate=30, frames=60, **codec))
    every = await decoder.decode(file, every_nth_frame=7)
    source = common_pb2.VideoSource(inline_bytes=file)
    moments = common_pb2.TimestampSampling(times=[frame.time for frame in every.frames])
    again = await decoder.decode(source, sampling=common_pb2.FrameSampling(timestamps=moments))
    assert numbers(again) == numbers(every)


@pytest.mark.parametrize("container", CONTAINERS)
async def test_what_lies_between_moments_is_not_decoded(decoder: Decoder, container):
    """600 frames with a key frame each second: of each moment's group, at most the frames up to it are needed."""
    codec = {"codec": "mpeg4", "options": {"qscale": "5"}} if container == "avi" else {}
    clip = Clip(container=container, frames=600, gop=10, size=(96, 64), **codec)
    decoded = await decoder.decode(encode(clip), timestamps=[3.3, 20, 41.9])
    assert numbers(decoded) == [33, 200, 419]
    # MPEG-TS has no index, and lands where it lands.
    assert decoded.summary.frames_decoded <= (250 if container == "mpegts" else 60)
    assert not decoded.summary.truncated


BAD_MOMENTS = {
    "none": ([], {}, "config.sampling.timestamps.times"),
    "too many": ([n / 100 for n in range(10_001)], {}, "config.sampling.timestamps.times"),
    "one before the last": ([1, 2, 1.5], {}, "config.sampling.timestamps.times[2]"),
    "the same twice": ([1, 1], {}, "config.sampling.timestamps.times[1]"),
    "before the start": ([1, 2], {"start_time": 1.5}, "config.sampling.timestamps.times"),
    "at the end": ([1, 2], {"end_time": 2.0}, "config.sampling.timestamps.times"),
}


@pytest.mark.parametrize("name", BAD_MOMENTS)
async def test_bad_moments_are_refused(decoder: Decoder, name):
    times, span, field = BAD_MOMENTS[name]
    opening = config(b"x", timestamps=times, **span)
    assert refusal_of((await decoder.converse(requests(opening))).error).fields == (field,)


async def test_a_negative_moment_is_refused(decoder: Decoder):
    moments = common_pb2.TimestampSampling(times=[duration(1), common_pb2.VideoSegment().start])
    moments.times[0].seconds = -1
    opening = config(b"x", sampling=common_pb2.FrameSampling(timestamps=moments))
    refusal = refusal_of((await decoder.converse(requests(opening))).error)
    assert refusal.fields == ("config.sampling.timestamps.times[0]",)


# A rate


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
async def test_frames_that_a_rate_does_not_want_are_left_undecoded_where_none_refers_to_them(
    decoder: Decoder, container
):
    file = encode(Clip(container=container, frames=240, rate=30, gop=60, b_frames=3, options={"b_strategy": "0"}))
    decoded = await decoder.decode(file, frames_per_second=3)
    assert numbers(decoded) == list(range(0, 240, 10))
    assert decoded.summary.frames_decoded < 180
    assert decoded.summary.damaged_packets == 0
    assert decoded.summary.end_time.ToMilliseconds() == pytest.approx(8000, abs=2)
    assert len((await decoder.decode(file, every_nth_frame=1)).frames) == 240


# Scenes

CUTS = (17, 40, 83)


def scenes(number: int, width: int, height: int) -> np.ndarray:
    """Draw the number over a scene: four pictures that differ in colours and in layout, in slow motion."""
    picture = draw(number, width, height)
    scene = sum(number >= cut for cut in CUTS)
    texture = np.random.default_rng(scene).integers(0, 256, (4, 6, 3), np.uint8)
    below = np.kron(texture, np.ones((height, width // 3, 1), np.uint8))
    picture[height // 8 :] = below[: height - height // 8, number % 8 : width + number % 8]
    picture[: height // 8] = draw(number, width, height)[: height // 8]
    return picture


def scene_number(frame) -> int:
    """Read the number from the strip above the scene."""
    picture = pixels_of(frame)
    return number_of(picture[: picture.shape[0] // 8 * 2])


@pytest.mark.parametrize("rate", [0.5, 3])
async def test_scenes_give_the_frame_right_after_each_cut_and_a_steady_rate(decoder: Decoder, rate):
    file = encode(Clip(frames=120, size=(192, 128), draw=scenes, gop=50))
    decoded = await decoder.decode(file, scenes={"frames_per_second": rate})
    steady = await decoder.decode(file, frames_per_second=rate)
    times = {frame.time.ToNanoseconds() for frame in decoded.frames}
    assert {frame.time.ToNanoseconds() for frame in steady.frames} <= times
    assert [round(time / 1e8) for time in sorted(times)] == [scene_number(frame) for frame in decoded.frames]
    assert [scene_number(frame) for frame in decoded.frames if frame.scene_cut] == list(CUTS)
    assert len(decoded.frames) <= len(steady.frames) + len(CUTS)


async def test_scenes_have_one_frame_a_second_by_default_and_respect_the_span(decoder: Decoder):
    file = encode(Clip(frames=120, size=(192, 128), draw=scenes, gop=50))
    decoded = await decoder.decode(file, scenes={}, start_time=2, end_time=6)
    assert [scene_number(frame) for frame in decoded.frames] == [20, 30, 40, 50]
    assert [frame.scene_cut for frame in decoded.frames] == [False, False, True, False]


async def test_the_sample_films_only_cut_is_found_exactly(samples):
    async with running_decoder(samples) as decoder:
        source = common_pb2.VideoSource(uri=f"file://{samples}/film.mp4")
        decoded = await decoder.decode(source, scenes={"frames_per_second": 0.1}, longest_side=64)
    assert [(frame.time.ToNanoseconds() / 1e9, frame.scene_cut) for frame in decoded.frames] == [
        (0, False),
        (7.0, True),
        (10.0, False),
    ]


@pytest.mark.parametrize("rate", [0, 241])
async def test_a_bad_rate_of_scenes_is_refused(decoder: Decoder, rate):
    refusal = refusal_of((await decoder.try_decode(b"x", scenes={"frames_per_second": rate})).error)
    assert refusal.fields == ("config.sampling.scenes.frames_per_second",)
