"""A worker's use case: of an open video, the pictures that an order asks for, and the summary."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shoppable.decoder.adapters.opening import DAMAGE
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.adapters.rendering import Pixels, Renderer
from shoppable.decoder.cuts import CutDetector
from shoppable.decoder.domain import Encoding, Order, Summary
from shoppable.decoder.selection import Selected, Selection


@dataclass(frozen=True)
class Developed:
    """A picture that leaves."""

    pixels: Pixels  # [height, width, RGB], upright
    jpeg: bytes | None  # its encoding, if that was ordered
    time_ns: int
    keyframe: bool
    scene_cut: bool


class Decoding:
    """Iterates over the pictures, in order of time. Blocking at each step; yields None after work without one."""

    def __init__(self, video: VideoFile, order: Order) -> None:
        self._video = video
        self._order = order
        self._selection = Selection(video, order)
        self._renderer = Renderer(
            longest_side=order.longest_side,
            pixel_aspect=video.pixel_aspect,
            bottom_field_first=video.bottom_field_first,
        )
        self._cuts = CutDetector()
        self._developed = 0

    def __iter__(self) -> Iterator[Developed | None]:
        for selected in self._selection:
            yield None if selected is None else self._develop(selected)

    def summary(self) -> Summary:
        """Say how it went; call it at the end."""
        return Summary(
            frames_decoded=self._video.frames_decoded,
            frames_sent=self._developed,
            damaged_packets=self._video.damaged_packets,
            end_ns=self._video.end_ns,
            truncated=self._selection.read_to_end and self._video.truncated,
        )

    def _develop(self, selected: Selected) -> Developed | None:
        """Return what leaves, or None if the frame is of a kind that nothing can be made of."""
        frame = selected.frame
        try:
            pixels = self._renderer.render(frame.picture, frame.orientation)
        except DAMAGE as error:
            self._video.note_damage(error)
            return None
        self._developed += 1
        return Developed(
            pixels=pixels,
            jpeg=self._jpeg(pixels) if self._order.encoding is Encoding.JPEG else None,
            time_ns=frame.time_ns,
            keyframe=frame.keyframe,
            scene_cut=self._cuts.is_cut(pixels) or selected.after_cut,
        )

    def _jpeg(self, pixels: Pixels) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=self._order.jpeg_quality)
        return buffer.getvalue()
