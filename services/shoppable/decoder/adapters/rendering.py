"""Turns decoded frames into upright RGB pictures of the asked size, with swscale."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter

from shoppable.decoder.geometry import Orientation, fit, square_size

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
# Above the size of standard definition, untagged video is BT.709; below, BT.601, which is swscale's default.
_MAX_SD = (1024, 576)

Pixels = npt.NDArray[np.uint8]


class Renderer:
    """Renders the frames of one video. Not thread-safe."""

    def __init__(self, *, longest_side: int | None, pixel_aspect: Fraction | None) -> None:
        """Frames leave with a longest side of at most `longest_side` pixels, and never enlarged."""
        self._longest_side = longest_side
        self._pixel_aspect = pixel_aspect
        # It keeps swscale's tables from frame to frame.
        self._reformat: Callable[..., VideoFrame] = VideoReformatter().reformat

    def render(self, picture: VideoFrame, orientation: Orientation) -> Pixels:
        """Return the upright picture [height, width, RGB]. Resizing and conversion are one step, on the stored one."""
        square = square_size(picture.width, picture.height, self._pixel_aspect)
        width, height = fit(*square, self._longest_side)
        untagged_hd = picture.colorspace == _UNSPECIFIED and (picture.width > _MAX_SD[0] or picture.height > _MAX_SD[1])
        rgb = self._reformat(
            picture,
            width,
            height,
            "rgb24",
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
            threads=1,  # 0 would take all cores for every stream
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        return orientation.turn(rows.reshape(height, width, 3))
