"""How Triton should run the detectors on this machine's CPU: `make sweep-triton`.

Instances of a model, threads of an instance, and whether Triton batches across requests: each combination is started as
a real server and asked by several callers at a time, both detectors for each picture. Beside it runs one with the
shipped configuration, and the two take turns in small portions: the figures are ratios of neighbours, so whatever else
the machine does meets both. The shipped `configs/cpu.pbtxt` is chosen from the table by the rule that is printed below
it (deploy/triton/README.md).
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_detector import SIDES, Direct, pictures_of
from google.protobuf import text_format
from machine import cpu_seconds, machine
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient

from shoppable.local.locations import MODEL_REPOSITORY, SAMPLES
from shoppable.local.triton import TritonServer

# Of the lowest latency of one caller: who computes one picture at a time must not pay much for the others' throughput.
LATENCY_ALLOWED = 1.25
# Differences below this are noise; then fewer processes win, each of which holds its own copy of the model.
NOISE = 0.03
IMAGES_PER_RUN = 8


@dataclass(frozen=True)
class Setup:
    """One combination."""

    instances: int
    threads: int
    delay_us: int | None  # that the dynamic batcher waits; None: no dynamic batching

    @property
    def order(self) -> tuple[int, int, int]:
        """Where it stands in the table."""
        return -1 if self.delay_us is None else self.delay_us, self.instances, self.threads

    @property
    def batching(self) -> str:
        """In words."""
        return "off" if self.delay_us is None else f"waits {self.delay_us / 1000:g} ms"


@dataclass
class Seen:
    """What was measured of one combination, by concurrency; the ratios are to the shipped configuration."""

    rates: dict[int, list[float]] = field(default_factory=dict)  # pictures a second
    rate_ratios: dict[int, list[float]] = field(default_factory=dict)
    latency_ratios: dict[int, list[float]] = field(default_factory=dict)
    cpu_s: list[float] = field(default_factory=list)  # Triton's, for a picture, at the highest concurrency


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    levels: Sequence[int]
    rounds: int
    turns: int
    portion: int
    limit_s: float


@dataclass(frozen=True)
class Portion:
    """What one server did in one go."""

    rate: float
    latency_s: float  # median
    cpu_s: float  # for a picture


def configure(config: model_config_pb2.ModelConfig, setup: Setup) -> None:
    """Set what a combination stands for."""
    config.instance_group[0].count = setup.instances
    config.parameters["intra_op_threads"].string_value = str(setup.threads)
    config.ClearField("dynamic_batching")
    if setup.delay_us is not None:
        config.dynamic_batching.max_queue_delay_microseconds = setup.delay_us
        config.parameters["images_per_run"].string_value = str(IMAGES_PER_RUN)


def write_repository(folder: Path, setup: Setup | None) -> None:
    """Make a repository of links to the detectors, configured so, or as they are shipped."""
    for model in SIDES:
        source = MODEL_REPOSITORY / model
        config = text_format.Parse(
            (source / "configs" / "cpu.pbtxt").read_text("utf-8"), model_config_pb2.ModelConfig()
        )
        if setup is not None:
            configure(config, setup)
        target = folder / model / "configs" / "cpu.pbtxt"
        target.parent.mkdir(parents=True)
        target.write_text(text_format.MessageToString(config), encoding="utf-8")
        (folder / model / "1").symlink_to(source / "1", target_is_directory=True)


@contextlib.asynccontextmanager
async def running(setup: Setup | None, warm: int) -> AsyncIterator[Callable[[int, int], Awaitable[Portion]]]:
    """Run a Triton so; yields what asks it for a number of pictures at a concurrency."""
    with tempfile.TemporaryDirectory(prefix="shoppable-sweep-") as folder:
        write_repository(Path(folder) / "models", setup)
        server = await TritonServer.start(
            repository=Path(folder) / "models", backends=MODEL_REPOSITORY.parent / "backends"
        )
        async with server, InferenceServerClient(server.grpc_endpoint) as client:
            direct = Direct(client, pictures_of(SAMPLES / "film.mp4"))
            pids = [pid for pid in (server.server_pid, *server.stub_pids) if pid]

            async def portion(count: int, level: int) -> Portion:
                cpu, started = sum(map(cpu_seconds, pids)), time.perf_counter()
                took = await direct.run(count, level)
                seconds = time.perf_counter() - started
                cpu = sum(map(cpu_seconds, pids)) - cpu
                return Portion(count / seconds, statistics.median(took), cpu / count)

            await portion(2 * warm, warm)  # every instance and batch size has run once
            yield portion


async def visit(setup: Setup, seen: Seen, shipped: Callable[[int, int], Awaitable[Portion]], arguments: Plan) -> None:
    """Start Triton so and take turns with the shipped one at each concurrency."""
    async with running(setup, max(arguments.levels)) as candidate:
        for level in arguments.levels:
            count = max(arguments.portion, 2 * level)
            for turn in range(arguments.turns):
                if turn % 2:  # who goes first changes
                    theirs, ours = await shipped(count, level), await candidate(count, level)
                else:
                    ours, theirs = await candidate(count, level), await shipped(count, level)
                seen.rates.setdefault(level, []).append(ours.rate)
                seen.rate_ratios.setdefault(level, []).append(ours.rate / theirs.rate)
                seen.latency_ratios.setdefault(level, []).append(ours.latency_s / theirs.latency_s)
                if level == max(arguments.levels):
                    seen.cpu_s.append(ours.cpu_s)


def choose(rows: Sequence[dict[str, object]], levels: Sequence[int]) -> dict[str, object]:
    """Apply the rule."""
    rate, latency = f"x images/s at {max(levels)}", f"x latency at {min(levels)}"

    def number(row: dict[str, object], name: str) -> float:
        return float(str(row[name]))

    lowest = min(number(row, latency) for row in rows)
    quick = [row for row in rows if number(row, latency) <= LATENCY_ALLOWED * lowest]
    best = max(number(row, rate) for row in quick)
    alike = [row for row in quick if number(row, rate) >= (1 - NOISE) * best]
    return min(alike, key=lambda row: (number(row, "instances"), number(row, "threads"), row["batching"] != "off"))


def rows_of(results: dict[Setup, Seen], levels: Sequence[int]) -> list[dict[str, object]]:
    """Return a row for each combination."""
    return [
        {
            "instances": setup.instances,
            "threads": setup.threads,
            "batching": setup.batching,
            **{f"x images/s at {level}": statistics.median(seen.rate_ratios[level]) for level in levels},
            **{f"x latency at {level}": statistics.median(seen.latency_ratios[level]) for level in levels},
            f"best images/s at {max(levels)}": max(seen.rates[max(levels)]),
            "CPU ms": statistics.median(seen.cpu_s) * 1000,
        }
        for setup, seen in sorted(results.items(), key=lambda item: item[0].order)
    ]


def markdown(rows: Sequence[dict[str, object]]) -> str:
    """Return the table as it stands in the repository."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    for row in rows:
        cells = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def sweep(setups: Sequence[Setup], arguments: Plan) -> dict[Setup, Seen]:
    """Visit all, round by round; once the time is over no further visit is begun. Those never visited are left out."""
    ends = time.monotonic() + arguments.limit_s
    results: dict[Setup, Seen] = {}
    async with running(None, max(arguments.levels)) as shipped:
        for number in range(arguments.rounds):
            for index, setup in enumerate(setups if number % 2 == 0 else reversed(setups)):
                if time.monotonic() > ends:
                    print(f"stopped after {arguments.limit_s:g} s in round {number + 1} of {arguments.rounds}")
                    return results
                print(f"round {number + 1} of {arguments.rounds}, {index + 1} of {len(setups)}: {setup}", flush=True)
                await visit(setup, results.setdefault(setup, Seen()), shipped, arguments)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    parser.add_argument(
        "--delays-us", type=int, nargs="+", default=[-1, 0, 2000], help="-1: no batching (default: -1 0 2000)"
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8], help="(default: 1 8)")
    parser.add_argument("--rounds", type=int, default=2, help="visits to each (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of the two servers in a visit (default: %(default)s)")
    parser.add_argument("--portion", type=int, default=8, help="pictures in a turn, at least (default: %(default)s)")
    parser.add_argument(
        "--limit-s", type=float, default=240, help="seconds after which no visit is begun (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    setups = [
        Setup(instances, threads, None if delay < 0 else delay)
        for delay, instances, threads in itertools.product(arguments.delays_us, arguments.instances, arguments.threads)
    ]
    levels = sorted(arguments.concurrency)
    plan = Plan(levels, arguments.rounds, arguments.turns, arguments.portion, arguments.limit_s)
    rows = rows_of(asyncio.run(sweep(setups, plan)), levels)
    chosen = choose(rows, levels)
    console = Console()
    table = Table(title="Triton on this machine's CPU, both detectors for each picture")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        cells = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values())
        table.add_row(*cells, style="bold" if row is chosen else None)
    console.print(table)
    print(markdown(rows))
    print(
        f"chosen: {chosen['instances']} instances of {chosen['threads']} threads, batching {chosen['batching']}"
        f" (the most images/s at {max(levels)}, within {NOISE:.0%}, of those within {LATENCY_ALLOWED - 1:.0%} of the"
        f" lowest latency at {min(levels)}; fewer processes first)"
    )
    print(machine())
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows, "chosen": chosen}, indent=2) + "\n")


if __name__ == "__main__":
    main()
