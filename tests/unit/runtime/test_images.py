import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shoppable.runtime.images import raw_image, read_image, write_jpeg
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2

MAX_PIXELS = 1_000_000
PIXELS = np.random.default_rng(3).integers(0, 256, (12, 20, 3)).astype(np.uint8)


def read(image: common_pb2.Image):
    violations = Violations()
    pixels = read_image(image, "image", violations, max_pixels=MAX_PIXELS)
    assert bool(violations) == (pixels is None)
    return pixels


def encoded(mode: str, size: tuple[int, int], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 0).save(buffer, kind, **options)
    return buffer.getvalue()


def test_raw_pixels_come_back_as_they_are():
    assert np.array_equal(read(raw_image(PIXELS)), PIXELS)


def test_jpeg_comes_back_close():
    smooth = np.full((40, 60, 3), (200, 60, 20), np.uint8)
    message = write_jpeg(smooth, quality=95)
    assert (message.width, message.height) == (60, 40)
    assert np.abs(read(message).astype(int) - smooth).max() < 6


def test_a_transparent_png_lies_over_white():
    assert read(common_pb2.Image(data=encoded("RGBA", (4, 4), "PNG"))).min() == 255


def test_a_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded("RGB", (40, 20), "JPEG", exif=exif.tobytes())
    assert read(common_pb2.Image(data=data)).shape == (40, 20, 3)


def gradient(width: int, height: int) -> Image.Image:
    """A smooth picture, wider than it is high: it looks the same at every size."""
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)
    red, green = np.broadcast_to(across, (height, width)), np.broadcast_to(down[:, None], (height, width))
    return Image.fromarray(np.stack([red, green, 255 - red], -1).astype(np.uint8))


def jpeg(picture: Image.Image, **options: object) -> common_pb2.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, **options)
    return common_pb2.Image(data=buffer.getvalue())


@pytest.mark.parametrize(
    ("size", "smaller"),
    [((1200, 800), (300, 200)), ((799, 400), (400, 200)), ((390, 200), (390, 200)), ((100, 60), (100, 60))],
)
def test_a_jpeg_is_decoded_as_small_as_is_enough_and_looks_the_same(size, smaller):
    small = read_image(jpeg(gradient(*size)), "image", Violations(), max_pixels=MAX_PIXELS, enough=200)
    assert small.shape == (smaller[1], smaller[0], 3)
    assert np.abs(small.astype(int) - np.asarray(gradient(*smaller))).max() < 8


def test_a_jpeg_that_is_decoded_smaller_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    message = jpeg(gradient(800, 400), exif=exif.tobytes())
    assert read_image(message, "image", Violations(), max_pixels=MAX_PIXELS, enough=200).shape == (400, 200, 3)


def test_what_must_not_be_decoded_is_not_decoded_smaller_either():
    violations = Violations()
    assert read_image(jpeg(gradient(1200, 1000)), "image", violations, max_pixels=MAX_PIXELS, enough=200) is None
    assert violations


@pytest.mark.parametrize(
    "image",
    [
        common_pb2.Image(),
        common_pb2.Image(data=b"not a picture"),
        common_pb2.Image(data=encoded("RGB", (4, 4), "GIF")),
        common_pb2.Image(data=encoded("RGB", (4, 4), "PNG"), format=common_pb2.IMAGE_FORMAT_JPEG),
        common_pb2.Image(data=encoded("RGB", (40, 40), "PNG")[:60]),
        common_pb2.Image(data=encoded("L", (40_000, 1), "PNG")),
        common_pb2.Image(data=encoded("L", (2000, 2000), "PNG")),
        common_pb2.Image(data=bytes(12), format=common_pb2.IMAGE_FORMAT_RGB24, width=2, height=3),
        common_pb2.Image(data=bytes(12), format=common_pb2.IMAGE_FORMAT_RGB24),
        common_pb2.Image(data=b"x", format=common_pb2.IMAGE_FORMAT_RGB24, width=2**31, height=2**31),
        common_pb2.Image(data=b"x", format=99),
    ],
    ids=lambda image: f"{len(image.data)} bytes of format {image.format}",
)
def test_what_is_no_picture_is_refused(image):
    assert read(image) is None


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 "]),
)
def test_random_bytes_are_refused_and_never_raise(tail, head):
    read(common_pb2.Image(data=head + tail))


@settings(deadline=None)
@given(st.data())
def test_a_damaged_jpeg_is_refused_or_read_and_never_raises(data):
    broken = bytearray(write_jpeg(PIXELS, quality=90).data)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    read(common_pb2.Image(data=bytes(broken)))
