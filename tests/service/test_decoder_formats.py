"""Each codec, container, pixel format and colour description: the right frames, at their times, in their colours."""

import functools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from support.decoder_calls import NS, Decoder, pixels_of, running_decoder
from support.videos import (
    PALETTE,
    Clip,
    draw,
    draw_palette,
    encode,
    keyframes_of,
    number_of,
    palette_of,
)

BT709, BT601, BT2020 = 1, 5, 9
# Of 255, for each of eight colours. What the codecs lose is part of it; swscale alone is within 3.
COLOUR_TOLERANCE = 6
X264 = {"crf": "2", "preset": "ultrafast"}
X265 = {"crf": "4", "preset": "ultrafast", "x265-params": "log-level=none"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "lossless": "1"}
VP8 = {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "8M"}
AV1 = {"crf": "5", "preset": "8"}  # at 12 it repeats a frame now and then
FINE = {"qscale": "1"}


def clip(container: str, codec: str, pixel_format: str, options: dict[str, str], **more: object) -> Clip:
    defaults: dict[str, object] = {"colorspace": BT709, "draw": draw_palette, "frames": 24}
    return Clip(container=container, codec=codec, pixel_format=pixel_format, options=options, **{**defaults, **more})


FORMATS = {
    "h264 8 bit 4:2:0 in mp4": clip("mp4", "libx264", "yuv420p", X264),
    "h264 8 bit 4:2:2 in mov": clip("mov", "libx264", "yuv422p", X264, colorspace=BT601),
    "h264 8 bit 4:4:4 in matroska": clip("matroska", "libx264", "yuv444p", X264, colorspace=BT2020),
    "h264 10 bit 4:2:0 in mpegts": clip("mpegts", "libx264", "yuv420p10le", X264),
    "h264 10 bit 4:2:2 full range": clip("mp4", "libx264", "yuv422p10le", X264, full_range=True),
    "h264 10 bit 4:4:4 bt.601 full range": clip(
        "mp4", "libx264", "yuv444p10le", X264, colorspace=BT601, full_range=True
    ),
    "h264 full range yuvj": clip("mp4", "libx264", "yuvj420p", X264, full_range=True),
    "h264 reordered in avi": clip("avi", "libx264", "yuv420p", {"crf": "2", "preset": "veryfast"}),
    "hevc 8 bit 4:2:0 in mp4": clip("mp4", "libx265", "yuv420p", X265),
    "hevc 8 bit 4:2:0 full range in mpegts": clip("mpegts", "libx265", "yuv420p", X265, full_range=True),
    "hevc 10 bit 4:2:0 bt.2020 in mov": clip("mov", "libx265", "yuv420p10le", X265, colorspace=BT2020),
    "hevc 10 bit 4:2:2 in matroska": clip("matroska", "libx265", "yuv422p10le", X265, colorspace=BT601),
    "hevc 12 bit 4:4:4": clip("mp4", "libx265", "yuv444p12le", X265),
    "vp8 in webm": clip("webm", "libvpx", "yuv420p", VP8, colorspace=BT601),
    "vp9 4:2:0 in webm": clip("webm", "libvpx-vp9", "yuv420p", VP9),
    "vp9 4:4:4 full range in mp4": clip("mp4", "libvpx-vp9", "yuv444p", VP9, colorspace=BT601, full_range=True),
    "vp9 with alpha in webm": clip("webm", "libvpx-vp9", "yuva420p", VP9, colorspace=None),
    "av1 8 bit in mp4": clip("mp4", "libsvtav1", "yuv420p", AV1),
    "av1 10 bit bt.2020 in webm": clip("webm", "libsvtav1", "yuv420p10le", AV1, colorspace=BT2020),
    "mpeg-4 in mp4": clip("mp4", "mpeg4", "yuv420p", FINE, colorspace=BT601),
    "mpeg-4 with b-frames in avi": clip("avi", "mpeg4", "yuv420p", {**FINE, "bf": "2"}, colorspace=BT601),
    "mpeg-2 4:2:0 in mpegts": clip("mpegts", "mpeg2video", "yuv420p", {**FINE, "bf": "2"}, rate=25),
    "mpeg-2 4:2:2 in matroska": clip("matroska", "mpeg2video", "yuv422p", FINE, rate=25, colorspace=BT601),
    "mpeg-1 in mpegts": clip("mpegts", "mpeg1video", "yuv420p", FINE, rate=25, colorspace=None),
    "prores 4:4:4 with alpha in mov": clip("mov", "prores_ks", "yuva444p10le", {"profile": "4"}, colorspace=None),
    "prores 4:2:2 in mov": clip("mov", "prores_ks", "yuv422p10le", {}),
    "prores 4:4:4 in mov": clip("mov", "prores_ks", "yuv444p10le", {"profile": "4"}, colorspace=BT601),
    "mjpeg 4:2:0 in avi": clip("avi", "mjpeg", "yuvj420p", FINE, colorspace=BT601, full_range=True),
    "mjpeg 4:4:4 in mov": clip("mov", "mjpeg", "yuvj444p", FINE, colorspace=BT601, full_range=True),
    "gif": clip("gif", "gif", "rgb8", {}, colorspace=None),
    "rgb in h264": clip("mp4", "libx264rgb", "rgb24", X264, colorspace=None),
}
# Made once of the same pictures, by an FFmpeg whose libvpx has more than 8 bits: that of PyAV has no encoder for them.
STORED = {"vp9 10 bit bt.2020 in webm": Path(__file__).parents[1] / "support/clips/vp9-10-bit.webm"}
FORMATS |= {name: clip("webm", "libvpx-vp9", "yuv420p10le", VP9, colorspace=BT2020) for name in STORED}
PALETTE_OF_GIF = 48  # its codec here knows 256 colours, of 3 + 3 + 2 bits


@functools.cache  # some encoders take half a second
def file_of(name: str) -> bytes:
    return STORED[name].read_bytes() if name in STORED else encode(FORMATS[name])


@pytest.fixture
async def decoder(tmp_path):
    async with running_decoder(tmp_path) as decoder:
        yield decoder


def numbers(decoded) -> list[int]:
    return [number_of(pixels_of(frame)) for frame in decoded.frames]


def times_in_frames(decoded, clip: Clip) -> list[int]:
    """Return the times of frames in units of the clip's frames, each of which must be right to 1.1 ms."""
    found = [Fraction(frame.time.ToNanoseconds(), NS) * clip.rate for frame in decoded.frames]
    assert all(abs(position - round(position)) < 0.0011 * clip.rate for position in found)
    return [round(position) for position in found]


@pytest.mark.parametrize("name", FORMATS)
async def test_each_format_gives_the_right_frames_for_each_sampling(decoder: Decoder, name):
    clip, file = FORMATS[name], file_of(name)
    wanted = {
        "every frame": ({"every_nth_frame": 1}, list(range(24))),
        "every fifth": ({"every_nth_frame": 5}, [0, 5, 10, 15, 20]),
        "a rate": ({"frames_per_second": clip.rate / 4}, [0, 4, 8, 12, 16, 20]),
        "a span": ({"every_nth_frame": 1, "start_time": 13 / clip.rate, "end_time": 17 / clip.rate}, [13, 14, 15, 16]),
        "moments": ({"timestamps": [2.5 / clip.rate, 3 / clip.rate, 19.9 / clip.rate]}, [2, 3, 19]),
        "key frames": ({"keyframes_only": {}}, keyframes_of(file)),
    }
    for options, expected in wanted.values():
        decoded = await decoder.decode(file, **options)
        assert numbers(decoded) == expected
        assert times_in_frames(decoded, clip) == expected
        assert decoded.summary.damaged_packets == 0
        assert not decoded.summary.truncated


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [{}, {"longest_side": 96}, {"longest_side": 151}])  # as stored, a half, an odd one
async def test_each_format_gives_its_colours_at_each_size(decoder: Decoder, name, size):
    decoded = await decoder.decode(file_of(name), every_nth_frame=23, **size)
    assert {frame.image.width for frame in decoded.frames} == {size.get("longest_side", 192)}
    for frame in decoded.frames:
        found = np.array(palette_of(pixels_of(frame)), int)
        assert np.abs(found - PALETTE).max() <= (PALETTE_OF_GIF if name == "gif" else COLOUR_TOLERANCE)


@pytest.mark.parametrize("matrix", [3, 8, 13])
@pytest.mark.parametrize("sampling", [{"every_nth_frame": 1}, {"scenes": {}}])
async def test_a_matrix_that_makes_no_sense_is_taken_as_none(decoder: Decoder, matrix, sampling):
    """ProRes names its matrix in a byte of each frame's header, which a bit may flip."""
    file = encode(clip("mov", "prores_ks", "yuv422p10le", {}, colorspace=BT601, frames=3))
    changed = bytearray(file)
    for place in _frame_headers(file):
        changed[place + 4 + 16] = matrix
    assert bytes(changed) != file
    decoded = await decoder.decode(bytes(changed), **sampling)
    assert [number_of(pixels_of(frame)) for frame in decoded.frames] == ([0] if "scenes" in sampling else [0, 1, 2])


def _frame_headers(file: bytes) -> list[int]:
    places, at = [], file.find(b"icpf")
    while at >= 0:
        places.append(at)
        at = file.find(b"icpf", at + 4)
    return places


# High dynamic range


def pq(picture: np.ndarray) -> np.ndarray:
    """Encode linear light of BT.2020, as a share of 10,000 nits, by SMPTE ST 2084."""
    powered = picture**0.1593017578125
    return ((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375


def hlg(picture: np.ndarray) -> np.ndarray:
    """Encode linear light of BT.2020, as a share of the peak, by ARIB STD-B67."""
    logarithm = 0.17883277 * np.log(np.maximum(12 * picture - 0.28466892, 1e-9)) + 0.55991073
    return np.where(picture <= 1 / 12, np.sqrt(3 * picture), logarithm)


# Rows: how much of red, green and blue of BT.709 each of BT.2020 has.
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
HDR = {
    # Diffuse white is at 203 nits in PQ, and at 26.5 % of HLG's peak (ITU-R BT.2408).
    "pq": (16, "smpte2084", lambda light: pq(light * 203 / 10_000)),
    "hlg": (18, "arib-std-b67", lambda light: hlg(light * 0.265)),
}
HDR_TOLERANCE = 45  # of 255: tone mapping darkens to make room for highlights


@pytest.mark.parametrize("name", HDR)
async def test_high_dynamic_range_is_flagged_and_tone_mapped(decoder: Decoder, name):
    transfer, tag, encode_light = HDR[name]

    def graded(number: int, width: int, height: int) -> np.ndarray:
        srgb = draw_palette(number, width, height) / 255
        light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        return encode_light(light @ TO_BT2020.T) * 255

    file = encode(
        clip(
            *("mp4", "libx265", "yuv420p10le", X265),
            colorspace=BT2020, transfer=transfer, primaries=9, draw=graded, frames=3,
        )
    )  # fmt: skip
    decoded = await decoder.decode(file, every_nth_frame=1)
    assert (decoded.video.hdr, decoded.video.color_transfer) == (True, tag)
    assert numbers(decoded) == [0, 1, 2]
    found = np.array(palette_of(pixels_of(decoded.frames[-1])), int)
    assert np.abs(found - PALETTE).max() <= HDR_TOLERANCE
    # Greys stay grey, and bright things bright: unmapped, PQ's white would be at 145.
    assert np.ptp(found[3:6], axis=1).max() <= 2
    assert found[4].min() > 200


async def test_standard_range_is_not_flagged(decoder: Decoder):
    info = await decoder.probe(encode(Clip(frames=2)))
    assert (info.hdr, info.color_transfer, info.interlaced) == (False, "", False)
    tagged = await decoder.probe(encode(Clip(frames=2, colorspace=1, transfer=1, primaries=1)))
    assert (tagged.hdr, tagged.color_transfer) == (False, "bt709")


# Interlaced


def combed(number: int, width: int, height: int) -> np.ndarray:
    """Draw two moments: the number in the upper lines, and its complement, as another number, in the lower ones."""
    picture = draw(number, width, height)
    picture[1::2] = draw(4095 - number, width, height)[1::2]
    return picture


INTERLACED = {
    "h264": clip("mp4", "libx264", "yuv420p", {"crf": "4", "x264-params": "tff=1"}, codec_flags=0x20040000),
    "mpeg-2": clip("mpegts", "mpeg2video", "yuv420p", FINE, rate=25, codec_flags=0x20040000),
    "prores": clip("mov", "prores_ks", "yuv422p10le", {}, codec_flags=0x20040000),
}


@pytest.mark.parametrize("name", INTERLACED)
async def test_of_interlaced_frames_one_field_is_shown_without_combs(decoder: Decoder, name):
    made = replace(INTERLACED[name], draw=combed, size=(384, 128), colorspace=None)
    decoded = await decoder.decode(encode(made), every_nth_frame=1)
    assert decoded.video.interlaced
    assert (decoded.frames[0].image.width, decoded.frames[0].image.height) == (384, 128)
    assert times_in_frames(decoded, made) == list(range(24))
    field = numbers(decoded)
    assert field in (list(range(24)), [4095 - number for number in range(24)])
    blocks = pixels_of(decoded.frames[5])[8:56, 8:]
    assert np.abs(blocks[1:].astype(int) - blocks[:-1]).max() < 40  # combs would differ by 255 from line to line
