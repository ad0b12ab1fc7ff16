"""What it costs that each video is decoded in a locked-in process of its own, a part of the decoder's benchmark.

The same code decodes in this process, and in the service's workers, whose pictures this process sees in shared memory.
There is no gRPC in either.
"""

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import av
import numpy as np
from decoder_alone import SIDE
from decoder_films import hd_film

from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.decoding import Decoding
from shoppable.decoder.domain import EveryNthFrame, Order
from shoppable.decoder.inputs import OpenFile
from shoppable.decoder.server import guards_of
from shoppable.decoder.settings import DecoderSettings
from shoppable.decoder.workers.fleet import Fleet
from shoppable.decoder.workers.protocol import Job, Limits
from shoppable.decoder.workers.session import open_session
from shoppable.decoder.workers.slots import slots_for

_SETTINGS = DecoderSettings()
_GUARDS = guards_of(_SETTINGS)
_ORDER = Order(sampling=EveryNthFrame(1), longest_side=SIDE)


def _here(film: Path) -> Iterator[object]:
    """Yield the facts and the frames, decoded in this process."""
    with film.open("rb", buffering=0) as file:
        video = VideoFile(file, _GUARDS, size_bytes=film.stat().st_size, keyframes_only=False)
        with closing(video):
            yield video.facts
            yield from Decoding(video, _ORDER, _GUARDS, step=lambda: None)


async def _contained(film: Path, fleet: Fleet, readers: ThreadPoolExecutor) -> AsyncIterator[object]:
    """Yield the facts, the frames and the summary, from a worker."""

    def opener(_: Event) -> OpenFile:
        return OpenFile(film.open("rb", buffering=0), film.stat().st_size)

    slots = slots_for(_ORDER, max_pixels=_GUARDS.max_pixels, count=_SETTINGS.frames_ahead + 1)
    job = Job("decode", _GUARDS, Limits(_SETTINGS.max_video_memory_bytes), order=_ORDER, slots=slots)
    async with open_session(fleet, opener, job, field="source", readers=readers) as session:
        async for event in session:
            yield event


def _short_film(folder: Path) -> Path:
    path = folder / "short.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), "rgb24")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


async def containment(rounds: int) -> list[dict[str, object]]:
    """Take both ways in turns, with a film of one frame, and with each frame of a long one."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as readers:
        async with Fleet() as fleet:
            for name, film in (("one small frame", _short_film(Path(folder))), ("every frame of 20 s", hd_film())):
                here, contained = [], []
                for _ in range(rounds + 1):
                    started = time.perf_counter()
                    frames = sum(1 for _ in _here(film)) - 1
                    here.append(time.perf_counter() - started)
                    started = time.perf_counter()
                    events = [0 async for _ in _contained(film, fleet, readers)]
                    contained.append(time.perf_counter() - started)
                    assert len(events) == frames + 2
                plain, locked = statistics.median(here[1:]), statistics.median(contained[1:])
                rows.append(
                    {
                        "film": name,
                        "frames": frames,
                        "ms in this process": plain * 1000,
                        "ms in a worker": locked * 1000,
                        "more ms": (locked - plain) * 1000,
                        "throughput, worker / this process": plain / locked,
                    }
                )
    return rows
