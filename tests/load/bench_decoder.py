"""The decoder service against PyAV alone, for the same frames: `make bench-decoder`.

Both do the same job in turns, each in a process of its own, so that whatever else the machine does meets both. They
must give the same frames, at the same times and of the same size, which is checked. The figures are ratios of median
wall times; absolute times are printed for orientation only. PyAV alone decodes, samples, resizes to RGB, makes arrays,
and keeps nothing; the service does that, looks for cuts, and a client in this process receives it all. `alone` resizes
and converts in one call, as one would; `alone, resized first` in two, as the service does. The codec has one thread.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import av
from decoder_alone import SIDE, Run, alone, moments
from decoder_containment import containment
from decoder_films import hd_film, long_film
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.table import Table

from shoppable.client import open_channel
from shoppable.decoder.server import build
from shoppable.decoder.settings import DecoderSettings
from shoppable.decoder.workers.devices import Wish
from shoppable.runtime.logs import configure_logs
from shoppable.runtime.server import serving
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc

PARTS = ("modes", "streams", "containment", "memory")
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SAMPLINGS: dict[str, Callable[[float], common_pb2.FrameSampling]] = {
    "every frame": lambda _: common_pb2.FrameSampling(every_nth_frame=1),
    "5 a second": lambda _: common_pb2.FrameSampling(frames_per_second=5),
    "key frames": lambda _: common_pb2.FrameSampling(keyframes_only=common_pb2.KeyframeSampling()),
    "8 moments": lambda length: common_pb2.FrameSampling(
        timestamps=common_pb2.TimestampSampling(times=[_duration(at) for at in moments(length)])
    ),
    "scenes": lambda _: common_pb2.FrameSampling(scenes=common_pb2.SceneSampling(frames_per_second=5)),
}


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(int(seconds * 1e6))
    return duration


# The service


def serve(films: Sequence[str], hardware: Wish, pipe: Connection) -> None:
    """Serve in a process of its own until the pipe closes."""

    async def main() -> None:
        roots = tuple({Path(film).parent for film in films})
        settings = DecoderSettings(port=0, file_roots=roots, hardware=hardware, log_level="warning")
        configure_logs(settings)
        async with serving(settings, build) as (_, address):
            pipe.send(address)
            with contextlib.suppress(EOFError):
                await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


def _memory_mb(process: int) -> float:
    """Return the memory of a process and all below it; what several share counts once."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        threads = list(Path(f"/proc/{process}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # it has just ended
        return 0.0
    return int(rollup.split("Pss:")[1].split()[0]) / 1024 + sum(map(_memory_mb, children))


@dataclass
class Service:
    """A server in a process of its own."""

    films: Sequence[Path]
    hardware: Wish = "none"

    async def __aenter__(self) -> "Service":
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        films = [str(film) for film in self.films]
        self._process = context.Process(target=serve, args=(films, self.hardware, theirs))
        self._process.start()
        theirs.close()
        self._channel = open_channel(await asyncio.to_thread(self._pipe.recv))
        self._stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(await self._channel.__aenter__())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.__aexit__(None, None, None)
        self._pipe.close()
        await asyncio.to_thread(self._process.join)

    async def decode(self, film: Path, sampling: common_pb2.FrameSampling) -> Run:
        """Return what a call brings, and how long it takes."""
        source = common_pb2.VideoSource(uri=film.as_uri())
        config = frame_decoder_pb2.DecodeFramesConfig(source=source, sampling=sampling, longest_side=SIDE)

        async def requests():  # type: ignore[no-untyped-def]
            yield frame_decoder_pb2.DecodeFramesRequest(config=config)

        started, frames = time.perf_counter(), []
        async for response in self._stub.DecodeFrames(requests()):
            if response.HasField("frame"):
                frame = response.frame
                frames.append((frame.time.ToMilliseconds(), frame.image.width, frame.image.height))
        return Run(time.perf_counter() - started, frames)

    async def memory_mb(self) -> float:
        """Return the memory of the server and its workers."""
        return await asyncio.to_thread(_memory_mb, self._process.pid or 0)

    async def peak_mb(self, call: "asyncio.Task[Run]") -> float:
        """Return the most memory that the server and its workers are seen to have during a call."""
        peak = 0.0
        while not call.done():
            peak = max(peak, await self.memory_mb())
            await asyncio.sleep(0.05)
        return peak


def length_s(film: Path) -> float:
    """Return a film's length."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        return float((stream.duration or 0) * (stream.time_base or 0))


# Who decodes as well, each in turn with the service.
ALONE = {
    "alone": alone,
    "alone, resized first": partial(alone, resize_first=True),
    "alone, all cores": partial(alone, threads=0),
}


async def modes(film: Path, rounds: int, hardware: Wish) -> list[dict[str, object]]:
    """Take the service and PyAV alone in turns, for each sampling; the first of each is a warm-up and is dropped."""
    rows: list[dict[str, object]] = []
    loop, length = asyncio.get_running_loop(), length_s(film)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        async with Service([film], hardware) as service:
            for name, sampling in SAMPLINGS.items():
                runs: dict[str, list[float]] = {label: [] for label in ("service", *ALONE)}
                for _ in range(rounds + 1):
                    served = await service.decode(film, sampling(length))
                    runs["service"].append(served.seconds)
                    for label, other in ALONE.items():
                        run = await loop.run_in_executor(pool, other, str(film), name)
                        runs[label].append(run.seconds)
                        _check_alike(name, served, run)
                medians = {label: statistics.median(times[1:]) for label, times in runs.items()}
                rows.append(
                    {
                        "film": film.name,
                        "sampling": name,
                        "frames": len(served.frames),
                        "ms a frame": medians["service"] / max(1, len(served.frames)) * 1000,
                        **{label: medians[label] / medians["service"] for label in ALONE},
                    }
                )
    return rows


def _check_alike(sampling: str, served: Run, run: Run) -> None:
    """Check that both gave the same frames, of the same size; of scenes, that the service gave those and maybe more."""
    if sampling == "scenes":
        assert set(served.frames) >= set(run.frames)
    else:
        assert served.frames == run.frames, sampling


async def streams(film: Path, rounds: int) -> list[dict[str, object]]:
    """Decode the same film in several calls at a time."""
    rows, sampling = [], common_pb2.FrameSampling(frames_per_second=5)
    async with Service([film]) as service:
        await service.decode(film, sampling)
        for count in (1, 2, 4, 8):
            rates = []
            for _ in range(rounds):
                started = time.perf_counter()
                done = await asyncio.gather(*(service.decode(film, sampling) for _ in range(count)))
                rates.append(sum(len(run.frames) for run in done) / (time.perf_counter() - started))
            rows.append({"streams": count, "frames a second": statistics.median(rates)})
            rows[-1]["ratio to one stream"] = rows[-1]["frames a second"] / rows[0]["frames a second"]
    return rows


async def memory() -> list[dict[str, object]]:
    """Decode a film of one minute and one of an hour, each by a server of its own, and compare their peaks."""
    rows: list[dict[str, object]] = []
    for minutes in (1, 60):
        film = long_film(minutes)
        async with Service([film]) as service:
            idle = await service.memory_mb()
            call = asyncio.create_task(service.decode(film, common_pb2.FrameSampling(frames_per_second=5)))
            peak = await service.peak_mb(call)
            rows.append({"minutes": minutes, "frames": len(call.result().frames), "idle MB": idle, "peak MB": peak})
    rows[1]["ratio"] = float(str(rows[1]["peak MB"])) / float(str(rows[0]["peak MB"]))
    return rows


def machine() -> str:
    """Say what this was measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Python {platform.python_version()}, load {load:.1f}"


def show(console: Console, title: str, rows: Sequence[dict[str, object]]) -> None:
    """Print a table."""
    table = Table(title=title)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column, justify="left" if column in {"film", "sampling"} else "right")
    for row in rows:
        values = (row.get(column, "") for column in columns)
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


async def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Measure all that is asked for."""
    figures: dict[str, object] = {"machine": machine()}
    if "modes" in arguments.parts:
        films = arguments.film or [hd_film(), SAMPLES / "film.mp4"]
        figures["modes"] = [
            row for film in films for row in await modes(film.resolve(), arguments.rounds, arguments.hardware)
        ]
    if "streams" in arguments.parts:
        figures["streams"] = await streams(hd_film(), arguments.rounds)
    if "containment" in arguments.parts:
        figures["containment"] = await containment(arguments.rounds)
    if "memory" in arguments.parts:
        figures["memory"] = await memory()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--film", type=Path, action="append", help="film to decode, instead of a made one and the sample"
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="(default: all)")
    parser.add_argument(
        "--hardware", choices=("none", "cuda"), default="none", help="where the service decodes: cuda is an NVIDIA GPU"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments))
    console = Console(stderr=arguments.json)
    for name, title in (
        ("modes", "frames a second of the service, as a ratio to those of PyAV alone"),
        ("streams", "several films at a time, 5 frames a second of 1280 x 720 at 30"),
        ("containment", "what a locked-in process for each video costs"),
        ("memory", "peak memory of the server and its workers"),
    ):
        if name in figures:
            show(console, title, figures[name])  # type: ignore[arg-type]
    console.print(str(figures["machine"]))
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
