"""Where an object is at any moment: straight lines between the boxes that it was sent with."""

from bisect import bisect_right

from shoppable.v1 import common_pb2, orchestrator_pb2


def box_at(found: orchestrator_pb2.ShoppableObject, time_s: float) -> common_pb2.BoundingBox | None:
    """Return an object's box at a moment of the video, in seconds; None while it is not in the picture.

    Within one segment the boxes are joined by straight lines, edge by edge; before the first and after the last of
    them the object stands still. No line leads from one segment into another.
    """
    time_ns = round(time_s * 1e9)
    for segment in found.segments:
        start_ns, end_ns = segment.start.ToNanoseconds(), segment.end.ToNanoseconds()
        if start_ns <= time_ns < end_ns:
            boxes = [item for item in found.boxes if start_ns <= item.time.ToNanoseconds() < end_ns]
            return _between(boxes, time_ns)
    return None


def _between(boxes: list[orchestrator_pb2.TimedBox], time_ns: int) -> common_pb2.BoundingBox | None:
    after = bisect_right(boxes, time_ns, key=lambda item: item.time.ToNanoseconds())
    if not boxes:
        return None
    if after in {0, len(boxes)}:
        return boxes[min(after, len(boxes) - 1)].box
    earlier, later = boxes[after - 1], boxes[after]
    start_ns, end_ns = earlier.time.ToNanoseconds(), later.time.ToNanoseconds()
    share = (time_ns - start_ns) / (end_ns - start_ns)
    return common_pb2.BoundingBox(
        **{
            edge: getattr(earlier.box, edge) + share * (getattr(later.box, edge) - getattr(earlier.box, edge))
            for edge in ("left", "top", "right", "bottom")
        }
    )
