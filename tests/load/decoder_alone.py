"""What the decoder's benchmark holds the service against: PyAV in one process, as one would write it for this alone."""

import time
from dataclasses import dataclass

import av
from av.video.reformatter import VideoReformatter

from shoppable.decoder.adapters.rendering import Glance
from shoppable.decoder.cuts import CutDetector

SIDE = 640  # pixels, the longest of a frame that leaves


@dataclass(frozen=True)
class Run:
    """What came of one film."""

    seconds: float
    cpu_s: float  # of the process that wanted the frames
    frames: list[tuple[int, int, int]]  # milliseconds, width, height


def moments(length_s: float) -> list[float]:
    """Return eight moments of a film, in seconds."""
    return [length_s * (2 * number + 1) / 16 for number in range(8)]


def alone(film: str, sampling: str, *, threads: int = 1, resize_first: bool = False) -> Run:
    """Decode, sample, resize and make arrays, and keep nothing.

    Args:
        film: A file.
        sampling: What the benchmark calls it. For scenes each frame is looked at for cuts as the service does it; the
            service also looks at the frames that leave, whatever the sampling, for the caller's sake.
        threads: Of the codec; 0: one for each core.
        resize_first: Whether frames are resized before they are converted, as the service does, or both at once.
    """
    started, cpu_started, frames = time.perf_counter(), time.process_time(), []
    with av.open(film) as container:
        stream = container.streams.video[0]
        stream.thread_count = threads
        stream.thread_type = "AUTO" if threads != 1 else "SLICE"
        scale = min(1.0, SIDE / max(stream.width, stream.height))
        size = round(stream.width * scale), round(stream.height * scale)
        resize, convert = VideoReformatter().reformat, VideoReformatter().reformat
        for frame in _sampled(container, stream, sampling):
            time_ms = int((frame.pts - (stream.start_time or 0)) * stream.time_base * 1000)
            if resize_first:
                frame = resize(frame, *size, threads=1)
            height, width, _ = convert(frame, *size, "rgb24", threads=1).to_ndarray().shape
            frames.append((time_ms, width, height))
    return Run(time.perf_counter() - started, time.process_time() - cpu_started, frames)


def _sampled(container, stream, sampling):  # type: ignore[no-untyped-def]
    if sampling == "8 moments":
        for at in moments(float(stream.duration * stream.time_base)):
            container.seek(int(at / stream.time_base), stream=stream)
            shown = None
            for frame in container.decode(stream):
                if frame.time > at:
                    break
                shown = frame
            yield shown
        return
    if sampling == "key frames":
        stream.codec_context.skip_frame = "NONKEY"
    due, glance, cuts = 0.0, Glance(), CutDetector()
    for frame in container.decode(stream):
        after_cut = sampling == "scenes" and cuts.is_cut(glance.at(frame))
        if sampling in {"5 a second", "scenes"}:
            if frame.time >= due - 1e-6:
                due = (frame.time + 1e-6) // 0.2 * 0.2 + 0.2
            elif not after_cut:
                continue
        yield frame
