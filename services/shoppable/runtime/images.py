"""Pictures from strangers, decoded within limits; and pictures for others, encoded.

A decoded picture is an array of uint8 [height, width, 3], RGB, upright.
"""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2

Pixels = npt.NDArray[np.uint8]

MAX_SIDE = 16_384  # pixels
_ENCODED = {
    common_pb2.IMAGE_FORMAT_UNSPECIFIED: ("JPEG", "PNG", "WEBP"),
    common_pb2.IMAGE_FORMAT_JPEG: ("JPEG",),
    common_pb2.IMAGE_FORMAT_PNG: ("PNG",),
    common_pb2.IMAGE_FORMAT_WEBP: ("WEBP",),
}
_WHITE = (255, 255, 255)


class _RefusedError(Exception):
    """The picture cannot be taken; the text says what it must be."""


def read_image(
    image: common_pb2.Image, field: str, violations: Violations, *, max_pixels: int, enough: int | None = None
) -> Pixels | None:
    """Decode a message's picture; on a refusal add a violation of `field` and return None.

    Blocking: call it in a thread. Its memory is bounded by `max_pixels`, which is checked before pixels are decoded.
    Of a JPEG whose sides would still have `enough` pixels at a half, a quarter or an eighth, only that is decoded: its
    blocks are transformed to smaller ones, which takes a fraction of the time.
    """
    try:
        data = image.data  # a copy, each time that it is asked for
        if not data:
            raise _RefusedError("must not be empty")  # noqa: TRY301
        if image.format == common_pb2.IMAGE_FORMAT_RGB24:
            return _read_raw(data, image.width, image.height, max_pixels)
        if image.format not in _ENCODED:
            raise _RefusedError("must be of a known format")  # noqa: TRY301
        return _read_encoded(data, _ENCODED[image.format], max_pixels, enough)
    except _RefusedError as error:
        violations.add(field, str(error))
        return None


def write_jpeg(pixels: Pixels, *, quality: int) -> common_pb2.Image:
    """Encode a picture as JPEG of quality 1..100. Blocking."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    height, width = pixels.shape[:2]
    return common_pb2.Image(data=buffer.getvalue(), format=common_pb2.IMAGE_FORMAT_JPEG, width=width, height=height)


def raw_image(pixels: Pixels) -> common_pb2.Image:
    """Wrap a picture's bytes as RGB24."""
    height, width = pixels.shape[:2]
    return common_pb2.Image(data=pixels.tobytes(), format=common_pb2.IMAGE_FORMAT_RGB24, width=width, height=height)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise _RefusedError(f"must have sides of 1..{MAX_SIDE} pixels, and has {width} x {height}")
    if width * height > max_pixels:
        raise _RefusedError(f"must have at most {max_pixels} pixels, and has {width} x {height}")


def _read_raw(data: bytes, width: int, height: int, max_pixels: int) -> Pixels:
    _check_size(width, height, max_pixels)
    expected = 3 * width * height
    if len(data) != expected:
        raise _RefusedError(f"must have 3 * width * height = {expected} bytes, and has {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _read_encoded(data: bytes, formats: tuple[str, ...], max_pixels: int, enough: int | None) -> Pixels:
    wanted = " or ".join(formats)
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=formats) as picture:
            warnings.simplefilter("ignore")  # remarks on odd metadata
            _check_size(*picture.size, max_pixels)
            if enough is not None:
                picture.draft(None, (enough, enough))
            picture.load()
            # Each step copies only if it must: a picture's memory is what bounds how many can be read at a time.
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode == "RGB":
                return np.asarray(picture)
            if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
                layered = picture.convert("RGBA")
                flat = Image.new("RGB", layered.size, _WHITE)
                flat.paste(layered, mask=layered.getchannel("A"))
                return np.asarray(flat)
            return np.asarray(picture.convert("RGB"))
    except _RefusedError:
        raise
    except Image.DecompressionBombError as error:
        raise _RefusedError(f"must have at most {max_pixels} pixels") from error
    except Exception as error:  # Pillow's decoders raise almost anything on broken data
        raise _RefusedError(f"must be a readable picture ({wanted})") from error
