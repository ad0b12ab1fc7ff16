"""The suite against a one-process program on the same models, film and sampling: `make bench`.

Both do the same job in turns, so that whatever else the machine does meets both. The figure is the ratio of their
median wall times; absolute times are printed for orientation only. Besides: what each process costs in CPU and memory,
the CPU that an hour of video takes, how much of it is the price of being services (what the suite takes above the
program, which does the same without gRPC, serialisation, checks and tracing), the time from call to first object, and
what several short clips at a time gain over one after the other.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from google.protobuf.duration_pb2 import Duration
from one_process import OneProcess, Run
from process_costs import Cost, cost_of_tree
from rich.console import Console
from rich.table import Table

from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient, OrchestratorClient, open_channel
from shoppable.local.locations import SAMPLES
from shoppable.local.suite import LocalSuite, SuiteOptions
from shoppable.v1 import orchestrator_pb2

ALONE = "one process"
_WATCH_S = 0.5
CLIPS = (0, 2, 4, 7, 8, 9, 10, 11)  # starts in seconds of eight clips of the sample film


@dataclass
class Measured:
    """All that was measured."""

    ours: list[Run] = field(default_factory=list)
    theirs: list[Run] = field(default_factory=list)
    costs: dict[str, list[Cost]] = field(default_factory=lambda: defaultdict(list))  # of a run, by process
    first_object_s: list[float] = field(default_factory=list)
    clips_in_turn_s: list[float] = field(default_factory=list)
    clips_at_a_time_s: list[float] = field(default_factory=list)
    clips_alone_s: list[float] = field(default_factory=list)


async def suite_run(address: str, film: Path, **options: object) -> tuple[Run, float | None]:
    """Let the suite do the job once, as a caller that uploads the film; also return when the first object came."""
    run, first_s = Run(), None
    wanted = orchestrator_pb2.AnnotateOptions(catalog="catalogs/sample", **options)
    loop = asyncio.get_running_loop()
    async with open_channel(address) as channel:
        started = loop.time()
        async for message in OrchestratorClient(channel).stream_annotate(film, wanted):
            if message.WhichOneof("response") == "object":
                first_s = first_s or loop.time() - started
                run.tracks += len(message.object.segments) if message.object.final else 0
            elif message.WhichOneof("response") == "summary":
                run.frames = message.summary.frames_sampled
                for stage in message.summary.stages:
                    run.by_stage[stage.stage] = stage.busy.ToMicroseconds() / 1e6
        run.seconds = loop.time() - started
    return run, first_s


async def costed_run(suite: LocalSuite, film: Path, measured: Measured) -> None:
    """Let the suite do the job once and note what each process took for it."""
    pids = {name: pid for name, pid in suite.pids.items() if pid is not None}
    before = {name: cost_of_tree(pid) for name, pid in pids.items()}
    peaks: dict[str, float] = defaultdict(float)

    async def watch() -> None:
        # The process that decodes a film ends with it.
        while True:
            for name, pid in pids.items():
                peaks[name] = max(peaks[name], cost_of_tree(pid).peak_mib)
            await asyncio.sleep(_WATCH_S)

    watching = asyncio.create_task(watch())
    run, _ = await suite_run(suite.endpoints.orchestrator, film)
    watching.cancel()
    measured.ours.append(run)
    for name, pid in pids.items():
        measured.costs[name].append(Cost(cost_of_tree(pid).cpu_s - before[name].cpu_s, peaks[name]))


async def clips(suite: LocalSuite, alone: OneProcess, film: Path, measured: Measured) -> None:
    """Annotate short clips, spans of the film, in turn, then at a time, and by the program."""
    spans = [{"start_time": Duration(seconds=start), "end_time": Duration(seconds=start + 2)} for start in CLIPS]
    loop = asyncio.get_running_loop()
    started = loop.time()
    for span in spans:
        await suite_run(suite.endpoints.orchestrator, film, **span)
    measured.clips_in_turn_s.append(loop.time() - started)
    started = loop.time()
    await asyncio.gather(*(suite_run(suite.endpoints.orchestrator, film, **span) for span in spans))
    measured.clips_at_a_time_s.append(loop.time() - started)
    started = loop.time()
    for start in CLIPS:
        await asyncio.to_thread(alone.annotate, film, start, start + 2)
    measured.clips_alone_s.append(loop.time() - started)


async def measure(film: Path, rounds: int, threads: int) -> Measured:
    """Take both in turns; the first of each is a warm-up and is dropped."""
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="shoppable-bench-") as scratch:
        options = SuiteOptions(data_folder=Path(scratch) / "data", log_folder=Path(scratch) / "logs")
        # The program's "index" is the right number of vectors; which they are makes no difference to the time.
        catalogue = np.random.default_rng(0).normal(size=(66, 1280)).astype(np.float32)
        alone = OneProcess(threads, catalogue)
        async with LocalSuite(options) as suite:
            async with open_channel(suite.endpoints.matcher) as channel:
                await import_feed(CatalogClient(channel), SAMPLES / "catalog.jsonl", catalog="sample")
            alone.annotate(film)
            await suite_run(suite.endpoints.orchestrator, film)
            for _ in range(rounds):
                before = time.process_time()
                measured.theirs.append(await asyncio.to_thread(alone.annotate, film))
                measured.costs[ALONE].append(Cost(time.process_time() - before, cost_of_tree(os.getpid()).peak_mib))
                await costed_run(suite, film, measured)
                address = suite.endpoints.orchestrator
                _, first_s = await suite_run(address, film, include_provisional_objects=True)
                measured.first_object_s.append(first_s or float("nan"))
                await clips(suite, alone, film, measured)
    return measured


def film_seconds(film: Path) -> float:
    """Return a film's length."""
    with av.open(str(film)) as container:
        return float(container.duration / av.time_base)


def report_costs(film: Path, measured: Measured, console: Console) -> dict[str, object]:
    """Print what the processes cost and return the figures."""
    length_s = film_seconds(film)
    table = Table(title="CPU and memory, median of the runs")
    for column in ("process", "CPU s a film", "CPU s a second of film", "peak MiB"):
        table.add_column(column, justify="left" if column == "process" else "right")
    by_process = {
        name: Cost(statistics.median(cost.cpu_s for cost in costs), max(cost.peak_mib for cost in costs))
        for name, costs in measured.costs.items()
    }
    for name, cost in by_process.items():
        table.add_row(name, f"{cost.cpu_s:.2f}", f"{cost.cpu_s / length_s:.3f}", f"{cost.peak_mib:.0f}")
    console.print(table)
    suite_s = sum(cost.cpu_s for name, cost in by_process.items() if name != ALONE)
    alone_s = by_process[ALONE].cpu_s
    first_s = statistics.median(measured.first_object_s)
    gain, against_alone = (
        statistics.median(other / ours for other, ours in zip(others, measured.clips_at_a_time_s, strict=True))
        for others in (measured.clips_in_turn_s, measured.clips_alone_s)
    )
    price = 1 - alone_s / suite_s
    share = 1 - by_process["inference"].cpu_s / suite_s
    console.print(
        f"an hour of video takes {suite_s / length_s:.2f} core hours; of the one process {alone_s / length_s:.2f}"
    )
    console.print(f"share of the suite's CPU that is not inference, gRPC and serialisation among it: {share:.0%}")
    console.print(f"share that is the price of being services, against the one process: {price:.0%}")
    console.print(f"time from call to first object, when it may be provisional: {first_s:.2f} s")
    console.print(
        f"{len(CLIPS)} clips of 2 s at a time against one after the other: {gain:.2f} times as fast;"
        f" against the one process: {against_alone:.2f}"
    )
    return {
        "cpu_s": {name: cost.cpu_s for name, cost in by_process.items()},
        "peak_mib": {name: cost.peak_mib for name, cost in by_process.items()},
        "core_hours_per_hour": suite_s / length_s,
        "core_hours_per_hour_alone": alone_s / length_s,
        "share_not_inference": share,
        "price_of_services": price,
        "first_object_s": first_s,
        "clips_gain": gain,
        "clips_against_one_process": against_alone,
    }


def report(film: Path, measured: Measured, console: Console) -> dict[str, object]:
    """Print the tables and return their figures."""
    ours, theirs = measured.ours, measured.theirs
    ratio = statistics.median(run.seconds for run in theirs) / statistics.median(run.seconds for run in ours)
    table = Table(title=f"{film.name}: {ours[0].frames} frames, median of {len(ours)} runs each")
    for column in ("", "wall s", "decode s", "detect s", "follow s", "match s", "tracks"):
        table.add_column(column, justify="right" if column else "left")
    rows = {"one process": theirs, "suite": ours}
    figures: dict[str, object] = {"film": film.name, "ratio": ratio, "machine": machine()}
    for name, runs in rows.items():
        stages = {
            stage: statistics.median(run.by_stage.get(stage, 0.0) for run in runs)
            for stage in ("decode", "detect", "follow", "match")
        }
        wall = statistics.median(run.seconds for run in runs)
        table.add_row(
            name, f"{wall:.2f}", *(f"{value:.2f}" if value else "-" for value in stages.values()), str(runs[0].tracks)
        )
        figures[name] = {"wall_s": wall, "spread_s": [run.seconds for run in runs], "stages_s": stages}
    console.print(table)
    console.print(f"[bold]throughput of the suite / one process: {ratio:.2f}[/bold]   ({machine()})")
    console.print("The suite's stages run at the same time: each is how long it had at least one call in work.")
    return figures | report_costs(film, measured, console)


def machine() -> str:
    """Say what this was measured on."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, default=SAMPLES / "film.mp4")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the one process's models")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    arguments = parser.parse_args()
    measured = asyncio.run(measure(arguments.film, arguments.rounds, arguments.threads))
    figures = report(arguments.film, measured, Console(stderr=arguments.json))
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
