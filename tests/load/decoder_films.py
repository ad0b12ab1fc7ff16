"""Films for the decoder's benchmark, made once and kept in the system's temporary folder."""

import os
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_FOLDER = Path(tempfile.gettempdir()) / f"shoppable-bench-films-{os.getuid()}"
_HD = (1280, 720)


def hd_film(seconds: int = 20) -> Path:
    """Return a film of 1280 x 720 at 30 frames a second: noise that pans, with a key frame every two seconds."""
    texture = np.random.default_rng(5).integers(0, 256, (_HD[1] // 8, _HD[0] // 4, 3), np.uint8)
    large = np.kron(texture, np.ones((8, 8, 1), np.uint8))
    path = _FOLDER / f"hd-{seconds}.mp4"
    if not path.exists():
        with _writing(path) as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = *_HD, "yuv420p"
            stream.gop_size = 60
            stream.options = {"preset": "veryfast", "crf": "23", "sc_threshold": "0"}
            for number in range(30 * seconds):
                left = number * 2 % _HD[0]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(large[:, left : left + _HD[0]]), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        _finish(path)
    return path


def long_film(minutes: int) -> Path:
    """Return a film of 320 x 240 at 10 frames a second: the packets of one minute, again and again."""
    minute = _FOLDER / "long-1.mp4"
    if not minute.exists():
        with _writing(minute) as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = 320, 240, "yuv420p", 50
            stream.options = {"preset": "veryfast", "bf": "0"}
            texture = np.random.default_rng(6).integers(0, 256, (240, 320, 3), np.uint8) // 4
            for number in range(600):
                frame = av.VideoFrame.from_ndarray(np.roll(texture, number, axis=1), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        _finish(minute)
    path = _FOLDER / f"long-{minutes}.mp4"
    if not path.exists():
        with _writing(path) as container:
            _repeat(minute, container, minutes)
        _finish(path)
    return path


def _repeat(source: Path, container: "av.container.OutputContainer", times: int) -> None:
    with av.open(str(source)) as film:
        template = film.streams.video[0]
        stream = container.add_stream_from_template(template)
        length = template.duration or 0
        for round_ in range(times):
            film.seek(0)
            for packet in film.demux(template):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += round_ * length
                packet.dts += round_ * length
                packet.stream = stream
                container.mux(packet)


def _writing(path: Path) -> "av.container.OutputContainer":
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return av.open(str(_unfinished(path)), "w", format="mp4", options={"movflags": "faststart"})


def _unfinished(path: Path) -> Path:
    return path.with_suffix(".part")


def _finish(path: Path) -> None:
    _unfinished(path).rename(path)
