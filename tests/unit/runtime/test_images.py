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
