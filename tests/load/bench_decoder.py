"""The decoder service against PyAV alone, for the same frames: `make bench-decoder`.

Both do the same job in turns, each in a process of its own, so that whatever else the machine does meets both. They
must give the same frames, at the same times and of the same size, which is checked. The figures are ratios of median
wall times; absolute times are printed for orientation only. PyAV alone decodes, samples, resizes to RGB, makes arrays,
and keeps nothing; the service does that, looks for cuts, and a client in this process receives it all. `alone` resizes
and converts in one call, as one would; `alone, resized first` in two, as the service does. The codec has one thread.
What a frame costs in CPU, by process, is counted too: it depends less on what else the machine does.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import av
from decoder_alone import Run, alone, moments
from decoder_containment import containment
from decoder_films import hd_film, long_film
from decoder_served import Service, machine_cpu_s
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.table import Table

from shoppable.decoder.workers.devices import Wish
from shoppable.v1 import common_pb2

Row: TypeAlias = dict[str, object]
_CORES = len(os.sched_getaffinity(0))
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


async def modes(film: Path, rounds: int, hardware: Wish) -> tuple[list[Row], list[Row]]:
    """Take the service and PyAV alone in turns, for each sampling; the first of each is a warm-up and is dropped.

    Returns:
        Ratios; and what a frame costs in CPU, by process, since a client and a service need both.
    """
    ratios: list[Row] = []
    costs: list[Row] = []
    loop, length = asyncio.get_running_loop(), length_s(film)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        async with Service([film], hardware) as service:
            for name, sampling in SAMPLINGS.items():
                runs: dict[str, list[Run]] = {label: [] for label in ("service", *ALONE)}
                service_s, workers_s = service.cpu_s()
                started, machine_s = time.perf_counter(), machine_cpu_s()
                for _ in range(rounds + 1):
                    served = await service.decode(film, sampling(length))
                    runs["service"].append(served)
                    for label, other in ALONE.items():
                        run = await loop.run_in_executor(pool, other, str(film), name)
                        runs[label].append(run)
                        assert served.frames == run.frames, name
                wall_s, machine_s = time.perf_counter() - started, machine_cpu_s() - machine_s
                medians = {label: statistics.median(run.seconds for run in all_[1:]) for label, all_ in runs.items()}
                what = {"film": film.name, "sampling": name, "frames": len(served.frames)}
                ratios.append(
                    {
                        **what,
                        "ms a frame": medians["service"] / max(1, len(served.frames)) * 1000,
                        **{label: medians[label] / medians["service"] for label in ALONE},
                    }
                )
                cpu_s = {label: sum(run.cpu_s for run in all_) for label, all_ in runs.items()}
                spent = {
                    "PyAV alone": cpu_s["alone"],
                    "worker": service.cpu_s()[1] - workers_s,
                    "service": service.cpu_s()[0] - service_s,
                    "client": cpu_s["service"],
                }
                ours_s = sum(spent.values()) + cpu_s["alone, resized first"] + cpu_s["alone, all cores"]
                a_frame = 1000 / max(1, len(served.frames)) / (rounds + 1)
                costs.append(
                    {
                        **what,
                        **{who: seconds * a_frame for who, seconds in spent.items()},
                        "best ratio": _CORES * spent["PyAV alone"] / (sum(spent.values()) - spent["PyAV alone"]),
                        "others %": max(0.0, machine_s - ours_s) / wall_s / _CORES * 100,
                    }
                )
    return ratios, costs


async def streams(film: Path, rounds: int) -> list[Row]:
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


async def memory() -> list[Row]:
    """Decode a film of one minute and one of an hour, each by a server of its own, and compare their peaks."""
    rows: list[Row] = []
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
    return f"{_CORES} cores, {model}, Python {platform.python_version()}, load {load:.1f}"


def show(console: Console, title: str, rows: Sequence[Row]) -> None:
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
        measured = [await modes(film.resolve(), arguments.rounds, arguments.hardware) for film in films]
        figures["modes"] = [row for ratios, _ in measured for row in ratios]
        figures["costs"] = [row for _, costs in measured for row in costs]
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
        ("costs", "ms of CPU a frame; the ratio if all cores were full; and how much of them others took"),
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
