"""What the decoder gives for good videos: the right frames at the right times, by every way in."""

from fractions import Fraction

import numpy as np
import pytest

from shoppable.v1 import common_pb2, frame_decoder_pb2, server_info_pb2, server_info_pb2_grpc
from support import videos
from support.decoder_calls import NS, Decoder, config, duration, pixels_of, requests, running_decoder
from support.videos import Clip, encode, number_of

CONTAINERS = {
    "mp4": Clip(),
    "mp4 with its index last": Clip(index_first=False),
    "mp4 in fragments": Clip(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "mov": Clip(container="mov"),
    "mkv": Clip(container="matroska"),
    "webm": Clip(container="webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "mpegts": Clip(container="mpegts"),
    "avi": Clip(container="avi", codec="mpeg4", options={"qscale": "3"}),
    "gif": Clip(container="gif", codec="gif", pixel_format="rgb8"),
}


@pytest.fixture
async def decoder(tmp_path):
    async with running_decoder(tmp_path) as decoder:
        yield decoder


def numbers(decoded) -> list[int]:
    return [number_of(pixels_of(frame)) for frame in decoded.frames]


@pytest.mark.parametrize("name", CONTAINERS)
async def test_each_container_gives_every_frame_at_its_time(decoder: Decoder, name):
    decoded = await decoder.decode(encode(CONTAINERS[name]), every_nth_frame=1)
    assert numbers(decoded) == list(range(30))
    assert decoded.times == [pytest.approx(number / 10, abs=0.0011) for number in range(30)]
    assert decoded.summary.frames_decoded == 30
    assert decoded.summary.damaged_packets == 0
    assert not decoded.summary.truncated
    assert decoded.summary.end_time.ToNanoseconds() / NS == pytest.approx(3.0, abs=0.002)


@pytest.mark.parametrize("name", CONTAINERS)
async def test_a_start_gives_exactly_the_frames_from_there(decoder: Decoder, name):
    file = encode(CONTAINERS[name])
    for start in (7, 12, 25, 28):
        decoded = await decoder.decode(file, every_nth_frame=2, start_time=start / 10, end_time=2.85)
        assert numbers(decoded) == list(range(start, 29, 2))
    assert numbers(await decoder.decode(file, every_nth_frame=1, start_time=99)) == []


async def test_default_sampling_gives_five_frames_a_second(decoder: Decoder):
    decoded = await decoder.decode(encode(Clip(frames=40, rate=20)))
    assert numbers(decoded) == list(range(0, 40, 4))
    assert decoded.times == [number / 5 for number in range(10)]


@pytest.mark.parametrize(("rate", "expected"), [(1, [0, 10, 20]), (4, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28])])
async def test_each_interval_gives_the_first_frame_at_or_after_its_start(decoder: Decoder, rate, expected):
    assert numbers(await decoder.decode(encode(Clip()), frames_per_second=rate)) == expected


async def test_more_frames_asked_for_than_there_are_gives_each_once(decoder: Decoder):
    assert numbers(await decoder.decode(encode(Clip()), frames_per_second=240)) == list(range(30))


async def test_a_variable_frame_rate_is_sampled_by_time(decoder: Decoder):
    times = [0, 40, 80, 120, 700, 710, 720, 1500, 2100, 2110, 2900, 2950]
    clip = Clip(frames=12, container="matroska", times_ms=times)
    every = await decoder.decode(encode(clip), every_nth_frame=1)
    assert every.times == [time / 1000 for time in times]
    sampled = await decoder.decode(encode(clip), frames_per_second=2)
    assert sampled.times == [0, 0.7, 1.5, 2.1, 2.9]
    assert numbers(sampled) == [0, 4, 7, 8, 10]


async def test_key_frames_only_gives_the_key_frames_and_decodes_nothing_else(decoder: Decoder):
    decoded = await decoder.decode(encode(Clip(frames=60, gop=12)), keyframes_only={})
    assert numbers(decoded) == [0, 12, 24, 36, 48]
    assert all(frame.keyframe for frame in decoded.frames)
    assert decoded.summary.frames_decoded == 5
    later = await decoder.decode(encode(Clip(frames=60, gop=12)), keyframes_only={}, start_time=1.3, end_time=4.8)
    assert numbers(later) == [24, 36]


async def test_a_start_is_sought_and_an_end_stops_the_decoding(decoder: Decoder):
    decoded = await decoder.decode(encode(Clip(frames=120, gop=10)), every_nth_frame=1, start_time=8, end_time=8.5)
    assert numbers(decoded) == [80, 81, 82, 83, 84]
    assert decoded.summary.frames_decoded <= 20
    assert not decoded.summary.truncated


async def test_a_time_that_was_sent_means_the_same_frame_when_it_comes_back(decoder: Decoder):
    file = encode(Clip(frames=12, rate=3))
    times = [frame.time for frame in (await decoder.decode(file, every_nth_frame=1)).frames]
    for number in (1, 2, 5, 8):
        assert numbers(await decoder.decode(file, every_nth_frame=1, start_time=times[number]))[0] == number
        assert numbers(await decoder.decode(file, every_nth_frame=1, end_time=times[number]))[-1] == number - 1


async def test_bytes_file_and_upload_give_the_same_frames(decoder: Decoder, tmp_path):
    file = encode(Clip(index_first=False))
    (tmp_path / "a film.mp4").write_bytes(file)
    by_uri = await decoder.decode(common_pb2.VideoSource(uri=f"file://{tmp_path}/a%20film.mp4"))
    inline = await decoder.decode(file)
    uploaded = await decoder.upload(file)
    announced = await decoder.upload(file, total_bytes=len(file))
    assert len(inline.frames) == 15
    for other in (by_uri, uploaded, announced):
        assert other == inline
    assert inline.video.size_bytes == len(file)


async def test_an_upload_larger_than_the_memory_for_it_goes_through_a_nameless_file(tmp_path):
    async with running_decoder(spool_bytes=1000, scratch_dir=tmp_path) as decoder:
        decoded = await decoder.upload(encode(Clip(index_first=False)), every_nth_frame=1)
    assert numbers(decoded) == list(range(30))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("stored_turns", "rotation", "degrees"), [(-1, 90, 270), (1, 270, 90), (2, 180, 180)])
async def test_a_turned_picture_leaves_upright(decoder: Decoder, stored_turns, rotation, degrees):
    """The picture is stored turned by quarters; the display matrix says how to turn it back."""

    def turned(number, width, height):
        upright = (height, width) if stored_turns % 2 else (width, height)
        return np.ascontiguousarray(np.rot90(videos.draw(number, *upright), stored_turns))

    file = encode(Clip(rotation=rotation, draw=turned, size=(128, 192) if stored_turns % 2 else (192, 128)))
    decoded = await decoder.decode(file, longest_side=96)
    assert numbers(decoded) == list(range(0, 30, 2))
    assert (decoded.video.width, decoded.video.height) == (192, 128)
    assert decoded.video.rotation_degrees == degrees
    assert (await decoder.probe(file)) == decoded.video
    assert pixels_of(decoded.frames[0]).shape == (64, 96, 3)
    assert pixels_of(decoded.frames[0])[50, 10] == pytest.approx(videos.LEFT_COLOUR, abs=12)


async def test_pixels_that_are_not_square_become_square(decoder: Decoder):
    decoded = await decoder.decode(encode(Clip(size=(192, 128), aspect=Fraction(4, 3))))
    assert (decoded.video.width, decoded.video.height) == (192, 96)
    assert pixels_of(decoded.frames[0]).shape == (96, 192, 3)
    assert numbers(decoded) == list(range(0, 30, 2))


@pytest.mark.parametrize(("longest", "size"), [(None, (192, 128)), (96, (96, 64)), (16, (16, 11)), (8192, (192, 128))])
async def test_frames_are_resized_but_never_enlarged(decoder: Decoder, longest, size):
    options = {} if longest is None else {"longest_side": longest}
    decoded = await decoder.decode(encode(Clip(frames=3)), **options)
    for frame in decoded.frames:
        assert (frame.image.width, frame.image.height) == size
        assert len(frame.image.data) == 3 * size[0] * size[1]
        assert frame.image.format == common_pb2.IMAGE_FORMAT_RGB24


@pytest.mark.parametrize("size", [(16, 16), (2048, 16), (18, 34)])
async def test_odd_and_tiny_sizes_are_decoded(decoder: Decoder, size):
    decoded = await decoder.decode(encode(Clip(frames=3, size=size)), longest_side=16)
    assert max(decoded.frames[0].image.width, decoded.frames[0].image.height) == 16


async def test_jpeg_frames_are_the_same_pictures_and_smaller(decoder: Decoder):
    file = encode(Clip())
    jpeg = common_pb2.IMAGE_FORMAT_JPEG
    fine = await decoder.decode(file, output_format=jpeg)
    coarse = await decoder.decode(file, output_format=jpeg, jpeg_quality=10)
    assert numbers(fine) == numbers(coarse) == list(range(0, 30, 2))
    assert all(frame.image.format == jpeg for frame in fine.frames)
    assert len(coarse.frames[0].image.data) < len(fine.frames[0].image.data) < 3 * 192 * 128


@pytest.mark.parametrize("colorspace", [1, 5])  # BT.709, BT.601
async def test_colours_are_converted_by_the_matrix_that_the_video_names(decoder: Decoder, colorspace):
    decoded = await decoder.decode(encode(Clip(frames=1, colorspace=colorspace)))
    picture = pixels_of(decoded.frames[0])
    assert picture[100, 20] == pytest.approx(videos.LEFT_COLOUR, abs=6)
    assert picture[100, 170] == pytest.approx(videos.RIGHT_COLOUR, abs=6)


async def test_large_video_without_a_named_matrix_is_taken_as_hd(decoder: Decoder):
    def flat(_number, width, height):
        return np.full((height, width, 3), videos.LEFT_COLOUR, np.uint8)

    tagged = await decoder.decode(encode(Clip(frames=1, size=(1280, 720), colorspace=1, draw=flat)), longest_side=64)
    # Strip the name: x264 writes BT.709 as VUI only if told; the MP4 box `colr` goes as well.
    file = encode(
        Clip(frames=1, size=(1280, 720), colorspace=1, draw=flat, options={"x264-params": "colormatrix=undef"})
    )
    untagged = await decoder.decode(file.replace(b"colrnclx", b"freenclx"), longest_side=64)
    assert pixels_of(tagged.frames[0])[9, 9] == pytest.approx(videos.LEFT_COLOUR, abs=6)
    assert pixels_of(untagged.frames[0])[9, 9] == pytest.approx(videos.LEFT_COLOUR, abs=6)


async def test_a_video_is_described(decoder: Decoder):
    file = encode(Clip(sound=True))
    info = await decoder.probe(file)
    assert info.container == "mov,mp4,m4a,3gp,3g2,mj2"
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")
    assert (info.width, info.height, info.rotation_degrees) == (192, 128, 0)
    assert info.duration == duration(3)
    assert info.average_frame_rate == pytest.approx(10)
    assert (info.frame_count, info.size_bytes) == (30, len(file))
    kinds = [(stream.index, stream.kind, stream.codec) for stream in info.streams]
    assert kinds == [(0, common_pb2.STREAM_KIND_VIDEO, "h264"), (1, common_pb2.STREAM_KIND_AUDIO, "aac")]


async def test_what_the_container_does_not_tell_is_absent(decoder: Decoder):
    info = await decoder.probe(encode(Clip(container="matroska")))
    assert not info.HasField("frame_count")


async def test_the_sample_films_cut_is_flagged_once(decoder: Decoder, samples):
    async with running_decoder(samples) as decoder:
        source = common_pb2.VideoSource(uri=f"file://{samples}/film.mp4")
        decoded = await decoder.decode(source, longest_side=320)
    assert len(decoded.frames) == 70
    assert [frame.time.ToNanoseconds() / NS for frame in decoded.frames if frame.scene_cut] == [7.0]


async def test_limits_can_be_read(decoder: Decoder):
    import grpc

    async with grpc.aio.insecure_channel(decoder.address) as channel:
        info = await server_info_pb2_grpc.ServerInfoServiceStub(channel).GetServerInfo(
            server_info_pb2.GetServerInfoRequest()
        )
    names = {limit.name for limit in info.limits}
    assert {"inline_video_bytes", "upload_bytes", "frame_pixels", "video_seconds", "concurrent_streams"} <= names


async def test_the_client_may_keep_its_side_open(decoder: Decoder):
    file = encode(Clip())

    async def talk():
        call = decoder.stub.DecodeFrames(timeout=20)
        await call.write(frame_decoder_pb2.DecodeFramesRequest(config=config(file)))
        return [response async for response in call]

    responses = await talk()
    assert responses[-1].HasField("summary")
    assert len((await decoder.converse(requests(config(file)))).frames) == 15


# Streams and starts


@pytest.mark.parametrize(
    ("sizes", "default", "chosen"),
    [
        ([(96, 64), (192, 128), (160, 96)], None, 1),
        ([(96, 64), (192, 128), (160, 96)], 2, 2),
        ([(192, 128), (192, 128)], None, 0),
        ([(96, 64), (512, 512)], 1, 0),  # the author's choice is over the limit
    ],
)
async def test_of_several_films_the_best_that_can_be_decoded_is_chosen_and_told(sizes, default, chosen):
    async with running_decoder(max_pixels=256 * 256) as decoder:
        decoded = await decoder.decode(videos.several_films(sizes, default=default), every_nth_frame=1)
    assert decoded.video.HasField("stream_index")
    assert decoded.video.stream_index == chosen
    assert (decoded.video.width, decoded.video.height) == sizes[chosen]
    assert numbers(decoded) == list(range(100 * chosen, 100 * chosen + 10))
    assert len(decoded.video.streams) == len(sizes)


async def test_a_cover_is_not_taken_for_the_film(decoder: Decoder):
    decoded = await decoder.decode(videos.with_cover(film=True), every_nth_frame=1)
    assert numbers(decoded) == list(range(20))
    assert decoded.video.streams[decoded.video.stream_index].codec == "h264"


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts"])
@pytest.mark.parametrize("shift", [50, -5, -15])
async def test_times_count_from_the_first_frame_that_is_shown(decoder: Decoder, container, shift):
    """A late start becomes an empty edit in MP4; an early one an edit that hides frames. Elsewhere they are moved."""
    file = encode(Clip(container=container, shift=shift))
    hidden = max(0, -shift) if container in {"mp4", "mov"} else 0
    decoded = await decoder.decode(file, every_nth_frame=1)
    assert numbers(decoded) == list(range(hidden, 30))
    assert decoded.times == [pytest.approx(number / 10, abs=0.0011) for number in range(30 - hidden)]
    later = await decoder.decode(file, every_nth_frame=3, start_time=0.7)
    assert numbers(later) == list(range(hidden + 7, 30, 3))
