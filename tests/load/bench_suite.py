"""The suite against a one-process program on the same models, film and sampling: `make bench`.

Both do the same job in turns, so that whatever else the machine does meets both. The figure is the ratio of their
median wall times; absolute times are printed for orientation only.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from one_process import OneProcess, Run
from rich.console import Console
from rich.table import Table

from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient, OrchestratorClient, open_channel
from shoppable.local.locations import SAMPLES
from shoppable.local.suite import LocalSuite, SuiteOptions
from shoppable.v1 import orchestrator_pb2


async def suite_run(address: str, film: Path) -> Run:
    """Let the suite do the job once, as a caller that uploads the film."""
    run = Run()
    options = orchestrator_pb2.AnnotateOptions(catalog="catalogs/sample")
    loop = asyncio.get_running_loop()
    async with open_channel(address) as channel:
        started = loop.time()
        async for message in OrchestratorClient(channel).stream_annotate(film, options):
            if message.WhichOneof("response") == "object":
                run.tracks += len(message.object.segments)
            elif message.WhichOneof("response") == "summary":
                run.frames = message.summary.frames_sampled
                for stage in message.summary.stages:
                    run.by_stage[stage.stage] = stage.busy.ToMicroseconds() / 1e6
        run.seconds = loop.time() - started
    return run


async def measure(film: Path, rounds: int, threads: int) -> tuple[list[Run], list[Run]]:
    """Take both in turns; the first of each is a warm-up and is dropped."""
    with tempfile.TemporaryDirectory(prefix="shoppable-bench-") as scratch:
        options = SuiteOptions(data_folder=Path(scratch) / "data", log_folder=Path(scratch) / "logs")
        # The program's "index" is the right number of vectors; which they are makes no difference to the time.
        catalogue = np.random.default_rng(0).normal(size=(66, 1280)).astype(np.float32)
        alone = OneProcess(threads, catalogue)
        async with LocalSuite(options) as suite:
            async with open_channel(suite.endpoints.matcher) as channel:
                await import_feed(CatalogClient(channel), SAMPLES / "catalog.jsonl", catalog="sample")
            ours, theirs = [], []
            for _ in range(rounds + 1):
                theirs.append(await asyncio.to_thread(alone.annotate, film))
                ours.append(await suite_run(suite.endpoints.orchestrator, film))
    return ours[1:], theirs[1:]


def report(film: Path, ours: Sequence[Run], theirs: Sequence[Run], console: Console) -> dict[str, object]:
    """Print the table and return its figures."""
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
    return figures


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
    ours, theirs = asyncio.run(measure(arguments.film, arguments.rounds, arguments.threads))
    figures = report(arguments.film, ours, theirs, Console(stderr=arguments.json))
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
