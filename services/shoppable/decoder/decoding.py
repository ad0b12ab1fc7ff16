"""A worker's use case: of an open video, the pictures that an order asks for, and the summary."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shoppable.decoder.adapters.opening import DAMAGE, Guards
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.adapters.rendering import Pixels, Renderer
from shoppable.decoder.ahead import Ahead
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


_AHEAD = 2  # decoded frames that wait to be made into pictures


class Decoding:
    """Iterates over the pictures, in order of time. Blocking at each step; decodes in another thread meanwhile."""

    def __init__(self, video: VideoFile, order: Order, guards: Guards, *, step: Callable[[], None]) -> None:
        """`step` is called in the other thread whenever it has got on, if only by a packet."""
        self._video = video
        self._guards = guards
        self._step = step
        self._order = order
        self._selection = Selection(video, order)
        self._renderer = Renderer(
            longest_side=order.longest_side,
            pixel_aspect=video.pixel_aspect,
            bottom_field_first=video.bottom_field_first,
        )
        self._cuts = CutDetector()
        self._developed = 0
        self._unreadable = 0  # frames that were decoded, but of which no picture can be made

    def __iter__(self) -> Iterator[Developed]:
        for selected in Ahead(self._selected(), size=_AHEAD):
            developed = self._develop(selected)
            if developed is not None:
                yield developed

    @property
    def damaged_packets(self) -> int:
        """Return how many packets were of no use until now."""
        return self._video.damaged_packets + self._unreadable

    def summary(self) -> Summary:
        """Say how it went; call it at the end."""
        return Summary(
            frames_decoded=self._video.frames_decoded,
            frames_sent=self._developed,
            damaged_packets=self.damaged_packets,
            end_ns=self._video.end_ns,
            truncated=self._selection.read_to_end and self._video.truncated,
        )

    def _selected(self) -> Iterator[Selected]:
        for selected in self._selection:
            self._step()
            if selected is not None:
                yield selected

    def _develop(self, selected: Selected) -> Developed | None:
        """Return what leaves, or None if the frame is of a kind that nothing can be made of."""
        frame = selected.frame
        try:
            pixels = self._renderer.render(frame.picture, frame.orientation)
        except DAMAGE as error:
            self._guards.check_memory(error)
            self._unreadable += 1
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
