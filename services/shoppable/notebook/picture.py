"""A frame of a video with the objects in it, and what they may be, drawn over it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from shoppable.client import sync
from shoppable.v1 import common_pb2, frame_decoder_pb2, product_matcher_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from shoppable.v1 import orchestrator_pb2

_LONGEST_SIDE = 1280
_COLOURS = {
    product_matcher_pb2.MATCH_DECISION_MATCH: "#1a9850",
    product_matcher_pb2.MATCH_DECISION_SIMILAR: "#e08214",
}
_OTHER_COLOUR = "#4d4d4d"
Box = tuple[float, float, float, float]  # left, top, right, bottom; 0..1


def frame_at(decoder: str, video: Path | str, time_s: float) -> Image.Image:
    """Return the frame that is on the screen at a time, upright.

    Raises:
        ValueError: There is none.
        ShoppableError: The video cannot be read.
    """
    if time_s < 0:
        raise ValueError("a time before the video's start has no picture")
    config = frame_decoder_pb2.DecodeFramesConfig(
        longest_side=_LONGEST_SIDE, output_format=common_pb2.IMAGE_FORMAT_JPEG, jpeg_quality=95
    )
    config.sampling.timestamps.times.add().FromNanoseconds(round(time_s * 1e9))
    with sync.open_channel(decoder) as channel, sync.DecoderClient(channel).decode(video, config) as answers:
        for answer in answers:
            if answer.HasField("frame"):
                return Image.open(io.BytesIO(answer.frame.image.data)).convert("RGB")
    raise ValueError(f"the video has no frame at {time_s:g} s")


def busiest(objects: Sequence[orchestrator_pb2.ShoppableObject]) -> float:
    """Return the time, in seconds, at which the most objects can be seen; 0 if there are none."""
    times = sorted(_seconds(item.best_view.time) for item in objects)
    return max(times, key=lambda time_s: sum(1 for _ in _visible(objects, time_s)), default=0.0)


def draw(frame: Image.Image, objects: Sequence[orchestrator_pb2.ShoppableObject], time_s: float) -> Image.Image:
    """Draw into a frame the objects that are in it at a time."""
    canvas = ImageDraw.Draw(frame)
    size = max(11, frame.height // 32)
    font = ImageFont.load_default(size)
    for item, (left, top, right, bottom) in _visible(objects, time_s):
        colour = _COLOURS.get(item.decision, _OTHER_COLOUR)
        corners = (left * frame.width, top * frame.height, right * frame.width, bottom * frame.height)
        canvas.rectangle(corners, outline=colour, width=max(2, frame.height // 240))
        text = _caption(item)
        _, _, width, height = canvas.textbbox((0, 0), text, font=font)
        # Within the frame, also for a box at its edge.
        x = max(0.0, min(corners[0], frame.width - width - 6))
        y = corners[1] - height - 6 if corners[1] >= height + 6 else corners[1]
        canvas.rectangle((x, y, x + width + 6, y + height + 6), fill=colour)
        canvas.text((x + 3, y + 2), text, fill="white", font=font)
    return frame


def _caption(item: orchestrator_pb2.ShoppableObject) -> str:
    if item.decision in _COLOURS and item.products:
        sign = "" if item.decision == product_matcher_pb2.MATCH_DECISION_MATCH else "~ "
        return f"{sign}{item.products[0].product.title} {item.confidence:.0%}"
    return item.label


def _visible(
    objects: Sequence[orchestrator_pb2.ShoppableObject], time_s: float
) -> Iterator[tuple[orchestrator_pb2.ShoppableObject, Box]]:
    for item in objects:
        for segment in item.segments:
            start_s, end_s = _seconds(segment.start), _seconds(segment.end)
            if start_s <= time_s < end_s:
                inside = [box for box in item.boxes if start_s <= _seconds(box.time) < end_s]
                if inside:
                    yield item, _box_at(inside, time_s)


def _box_at(boxes: Sequence[orchestrator_pb2.TimedBox], time_s: float) -> Box:
    """Return where an object is between its sampled moments, on a straight line."""
    if time_s <= _seconds(boxes[0].time):
        return _corners(boxes[0])
    for before, after in pairwise(boxes):
        start_s, end_s = _seconds(before.time), _seconds(after.time)
        if start_s <= time_s <= end_s:
            share = (time_s - start_s) / (end_s - start_s) if end_s > start_s else 0.0
            left, top, right, bottom = (
                a + (b - a) * share for a, b in zip(_corners(before), _corners(after), strict=True)
            )
            return left, top, right, bottom
    return _corners(boxes[-1])


def _corners(timed: orchestrator_pb2.TimedBox) -> Box:
    return timed.box.left, timed.box.top, timed.box.right, timed.box.bottom


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
