"""A frame's pixels."""

from shoppable.orchestrator.domain import Frame, Pixels
from shoppable.runtime.errors import InternalError
from shoppable.runtime.images import read_image
from shoppable.runtime.validation import Violations

_MAX_PIXELS = 4096 * 4096


def frame_pixels(frame: Frame) -> Pixels:
    """Decode a frame. Blocking.

    Raises:
        InternalError: The decoder sent something else.
    """
    pixels = read_image(frame.image, "frame", Violations(), max_pixels=_MAX_PIXELS)
    if pixels is None:
        raise InternalError("the decoder sent a frame that is no picture", reason="BAD_FRAME")
    return pixels
