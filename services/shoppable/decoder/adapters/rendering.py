"""Turns decoded frames into upright RGB pictures of the asked size, with swscale."""

from collections.abc import Callable
from fractions import Fraction

import av.error
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter

from shoppable.decoder.adapters.fields import FieldPicker
from shoppable.decoder.geometry import Orientation, fit, square_size

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
# What swscale converts; it refuses frames that name another matrix, as a damaged header may.
_MATRICES = frozenset({0, 1, _UNSPECIFIED, 4, 5, 6, 7, 9})
# Above the size of standard definition, untagged video is BT.709; below, BT.601, which is swscale's default.
_MAX_SD = (1024, 576)
HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG
_GLANCE = 64  # pixels a side
_DEEP_RGB = "gbrp10le"  # keeps what 8 bits of PQ would lose
# In which format frames are resized before they are converted. swscale's fast converters to RGB are for 4:2:0 of 8 bits
# that keeps its size: the two steps take half the time of one that does both, and see colours no coarser than a film of
# the smaller size would have them.
_RESIZED_AS = {"yuvj420p": "yuvj420p"} | dict.fromkeys(("yuv420p", "yuv420p10le", "nv12", "p010le"), "yuv420p")

Pixels = npt.NDArray[np.uint8]


class Glance:
    """Renders frames so small that only cuts can be seen. Not thread-safe."""

    def __init__(self) -> None:
        self._reformat: Callable[..., VideoFrame] = VideoReformatter().reformat

    def at(self, picture: VideoFrame) -> Pixels:
        """Return 64 x 64 of the stored pixels [height, width, RGB], unaveraged: 0.1 ms whatever the picture's size."""
        _forget_unknown_matrix(picture)
        small = self._reformat(picture, _GLANCE, _GLANCE, "rgb24", interpolation=Interpolation.POINT, threads=1)
        return _pixels_of(small, _GLANCE, _GLANCE)


class Renderer:
    """Renders the frames of one video. Not thread-safe."""

    def __init__(self, *, longest_side: int | None, pixel_aspect: Fraction | None, bottom_field_first: bool) -> None:
        """Frames leave with a longest side of at most `longest_side` pixels, and never enlarged."""
        self._longest_side = longest_side
        self._pixel_aspect = pixel_aspect
        self._fields = FieldPicker(bottom_first=bottom_field_first)
        # They keep swscale's tables from frame to frame.
        self._resize: Callable[..., VideoFrame] = VideoReformatter().reformat
        self._reformat: Callable[..., VideoFrame] = VideoReformatter().reformat
        self._tone_map: Callable[..., VideoFrame] = VideoReformatter().reformat

    def render(self, picture: VideoFrame, orientation: Orientation) -> Pixels:
        """Return the upright picture [height, width, RGB]. Resized once, from the stored one, before it is turned.

        Raises:
            FFmpegError: swscale cannot read it.
        """
        _forget_unknown_matrix(picture)
        square = square_size(picture.width, picture.height, self._pixel_aspect)
        width, height = fit(*square, self._longest_side)
        untagged_hd = picture.colorspace == _UNSPECIFIED and (picture.width > _MAX_SD[0] or picture.height > _MAX_SD[1])
        matrix = Colorspace.ITU709 if untagged_hd else None
        hdr = picture.color_trc in HDR_TRANSFERS
        if picture.interlaced_frame:
            picture = self._fields.pick(picture)
        # One thread: 0 would take all cores for every stream.
        if not hdr and (resized := _RESIZED_AS.get(picture.format.name)):
            picture = self._resize(picture, width, height, resized, threads=1)
        rgb = self._reformat(picture, width, height, _DEEP_RGB if hdr else "rgb24", src_colorspace=matrix, threads=1)
        if hdr:
            rgb = self._to_sdr(rgb)
        return orientation.turn(_pixels_of(rgb, width, height))

    def _to_sdr(self, deep: VideoFrame) -> VideoFrame:
        """Tone-map a resized picture: 20 ns a pixel, after tables that take a second, once for a video.

        Done on the stored picture, at 1920 x 1080, it would take 30 ms a frame.
        """
        try:
            return self._tone_map(
                deep,
                format="rgb24",
                dst_color_trc=ColorTrc.IEC61966_2_1,
                dst_color_primaries=ColorPrimaries.BT709,
                threads=1,
            )
        except av.error.FFmpegError:  # primaries that swscale does not know
            return self._tone_map(deep, format="rgb24", threads=1)


def _forget_unknown_matrix(picture: VideoFrame) -> None:
    if picture.colorspace not in _MATRICES:
        picture.colorspace = _UNSPECIFIED


def _pixels_of(rgb: VideoFrame, width: int, height: int) -> Pixels:
    """Return the pixels of an RGB24 frame, as a view where its lines are without padding."""
    plane = rgb.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
    return rows.reshape(height, width, 3)
