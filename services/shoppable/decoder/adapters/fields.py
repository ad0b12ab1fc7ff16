"""Takes one field of an interlaced frame, so that what moves is shown once and without combs.

The other field, of another moment, is left out: a frame is then of exactly its own time, needs none of its neighbours,
and costs nothing when it is not sampled. Where frames leave at half their height or less, nothing is lost by it.
"""

from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

_ANY_TIME_BASE = Fraction(1, 1000)  # the filter must have one; nobody looks at it


class FieldPicker:
    """Picks the field that is shown first. Not thread-safe."""

    def __init__(self, *, bottom_first: bool) -> None:
        self._field = "bottom" if bottom_first else "top"
        self._shape: tuple[int, int, str] | None = None
        self._graph = Graph()

    def pick(self, picture: VideoFrame) -> VideoFrame:
        """Return a picture of half the height. Nothing is copied: its lines are every second one of the frame's."""
        shape = (picture.width, picture.height, picture.format.name)
        if shape != self._shape:
            self._graph = _graph(*shape, field=self._field)
            self._shape = shape
        self._graph.vpush(picture)
        field = self._graph.vpull()
        field.colorspace, field.color_range = picture.colorspace, picture.color_range
        field.color_trc, field.color_primaries = picture.color_trc, picture.color_primaries
        return field


def _graph(width: int, height: int, pixel_format: str, *, field: str) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer", f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base={_ANY_TIME_BASE}:pixel_aspect=1/1"
    )
    graph.link_nodes(source, graph.add("field", f"type={field}"), graph.add("buffersink")).configure()
    return graph
