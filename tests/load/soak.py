"""Hours of ordinary work, watched: `make soak`, or `python tests/load/soak.py --minutes 30`.

Films, clips, searches and imports are asked for in an open loop at a share of the measured capacity. Memory,
descriptors, disk and latency are kept; afterwards the last third is held against the first. What a process holds goes
up and down with the films in work, so its floor is judged, which a leak raises: a tenth of the looks found less. Ends
with 1 if a call failed, or something grew by more than it may. Writes a picture, and a JSON file for
`tools/reliability_page.py`.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import plots
from machine import machine
from plots import Panel, Points
from rich.console import Console
from traffic import Disk, Held, Outcome, Traffic, disk_of, holdings, loaded_suite

from shoppable.local.suite import LocalSuite

MIX = {"film": 1, "clip": 6, "search": 20, "import": 3}
MEMORY_GROWTH = 1.1  # of the last third over the first; the start is not counted
LATENCY_GROWTH = 1.5
DISK_GROWTH = 1.5
LOG_LIMIT_MB = 80  # of a catalogue's write-ahead log: two segments of 32 MB and what is written meanwhile
_SAMPLE_S = 5.0
_WARM_UP = 0.1


@dataclass(frozen=True)
class Sample:
    """A look at the processes."""

    at_s: float
    held: dict[str, Held]
    disk: Disk  # of the catalogues


@dataclass(frozen=True)
class Verdict:
    """The last third of the run against the first: floors of what is held, medians of disk and latency."""

    calls: dict[str, int]
    codes: dict[str, int]
    memory_mb: dict[str, float]  # in the last third
    memory_growth: dict[str, float]
    descriptor_growth: dict[str, int]
    disk_mb: float
    disk_growth: float
    log_mb: float  # at most, in the whole run
    latency_s: dict[str, float]  # in the last third
    latency_p99_s: dict[str, float]  # of the whole run
    latency_growth: dict[str, float]

    @property
    def failures(self) -> list[str]:
        """Say what is not as it must be."""
        found = [f"{count} calls ended with {code}" for code, count in self.codes.items() if code != "OK"]
        found += [f"{name} grew to {ratio:.2f}" for name, ratio in self.memory_growth.items() if ratio > MEMORY_GROWTH]
        found += [f"{name} holds {more} descriptors more" for name, more in self.descriptor_growth.items() if more > 8]
        if self.disk_growth > DISK_GROWTH:
            found.append(f"the catalogues' disk grew to {self.disk_growth:.2f}")
        if self.log_mb > LOG_LIMIT_MB:
            found.append(f"the catalogues' logs took {self.log_mb:.0f} MB")
        found += [
            f"a {kind} takes {ratio:.2f}" for kind, ratio in self.latency_growth.items() if ratio > LATENCY_GROWTH
        ]
        return found


async def mixes_per_s(traffic: Traffic, seconds: float) -> float:
    """Return how many times a second the whole mix can be done, four callers at a time."""
    kinds, clock, done = mixed(random.Random(0)), time.monotonic, 0
    started = clock()

    async def ask() -> None:
        nonlocal done
        while clock() < started + seconds:
            await traffic.call(next(kinds))
            done += 1

    await asyncio.gather(*(ask() for _ in range(4)))
    return done / (clock() - started)


async def run(
    suite: LocalSuite, traffic: Traffic, catalogues: Path, per_s: float, seconds: float
) -> tuple[list[Outcome], list[Sample]]:
    """Ask at this rate for so long, and look at the processes meanwhile."""
    kinds, started = mixed(random.Random(1)), time.monotonic()
    samples: list[Sample] = []

    async def watch() -> None:
        while True:
            samples.append(Sample(time.monotonic() - started, holdings(suite), disk_of(catalogues)))
            await asyncio.sleep(_SAMPLE_S)

    watching = asyncio.create_task(watch())
    calls: set[asyncio.Task[Outcome]] = set()
    outcomes: list[Outcome] = []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
        task = asyncio.create_task(traffic.call(next(kinds)))
        calls.add(task)
        task.add_done_callback(lambda done: (calls.discard(done), outcomes.append(done.result())))
    watching.cancel()  # what is held while the last calls end tells nothing of growth
    await asyncio.gather(*calls)
    return outcomes, samples


def mixed(chance: random.Random) -> Iterator[str]:
    """Yield kinds of calls without an end: the whole mix in some order, again and again, so that the load is steady."""
    while True:
        yield from chance.sample(list(MIX), sum(MIX.values()), counts=list(MIX.values()))


def judge(outcomes: Sequence[Outcome], samples: Sequence[Sample]) -> Verdict:
    """Hold the last third against the first."""
    kept = samples[int(_WARM_UP * len(samples)) :]
    third = max(1, len(kept) // 3)
    early, late = kept[:third], kept[-third:]
    names = kept[-1].held
    ordered = sorted(outcomes, key=lambda one: one.started)
    first, last = ordered[: len(ordered) // 3], ordered[-len(ordered) // 3 :]

    def memory(some: Sequence[Sample], name: str) -> float:
        return _floor(sample.held[name].rss_mb for sample in some)

    def descriptors(some: Sequence[Sample], name: str) -> float:
        return _floor(sample.held[name].descriptors for sample in some)

    def disk(some: Sequence[Sample]) -> float:
        return statistics.median(sample.disk.data_mb for sample in some)

    def latencies(some: Sequence[Outcome], kind: str) -> list[float]:
        return sorted(one.took_s for one in some if one.kind == kind) or [0.0]

    def growth(kind: str) -> float:
        return statistics.median(latencies(last, kind)) / (statistics.median(latencies(first, kind)) or 1.0)

    return Verdict(
        calls=dict(Counter(one.kind for one in outcomes)),
        codes=dict(Counter(one.code.name for one in outcomes)),
        memory_mb={name: memory(late, name) for name in names},
        memory_growth={name: memory(late, name) / memory(early, name) for name in names},
        descriptor_growth={name: round(descriptors(late, name) - descriptors(early, name)) for name in names},
        disk_mb=disk(late),
        disk_growth=disk(late) / disk(early),
        log_mb=max(sample.disk.log_mb for sample in samples),
        latency_s={kind: statistics.median(latencies(last, kind)) for kind in MIX},
        latency_p99_s={kind: _p99(latencies(outcomes, kind)) for kind in MIX},
        latency_growth={kind: growth(kind) for kind in MIX},
    )


def _floor(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 10]


def _p99(ordered: Sequence[float]) -> float:
    return ordered[int(0.99 * (len(ordered) - 1))]


def draw(outcomes: Sequence[Outcome], samples: Sequence[Sample], path: Path) -> None:
    """Write a picture of what the processes held and how long the calls took."""
    names = list(samples[0].held)
    start = min(one.started for one in outcomes)

    def of_processes(value: Callable[[Held], float]) -> dict[str, Points]:
        return {name: [(sample.at_s, value(sample.held[name])) for sample in samples] for name in names}

    took = {kind: [(one.started - start, one.took_s) for one in outcomes if one.kind == kind] for kind in MIX}
    disk = {
        "data": [(sample.at_s, sample.disk.data_mb) for sample in samples],
        "write-ahead log": [(sample.at_s, sample.disk.log_mb) for sample in samples],
    }
    panels = [
        Panel("resident memory, MB", of_processes(lambda held: held.rss_mb)),
        Panel("descriptors", of_processes(lambda held: held.descriptors)),
        Panel("catalogues on the disk, MB", disk),
        Panel("seconds of a film", {"film": took["film"]}, joined=False),
        Panel("seconds of a call", {kind: points for kind, points in took.items() if kind != "film"}, joined=False),
    ]
    plots.draw(panels, samples[-1].at_s or 1.0, path)


async def soak(minutes: float, share: float, folder: Path) -> Verdict:
    """Run it all and keep what was seen."""
    console = Console(stderr=True)
    async with loaded_suite() as (suite, traffic, catalogues):
        await mixes_per_s(traffic, 5)
        most = await mixes_per_s(traffic, 30)
        console.print(f"capacity: {most:.1f} calls of the mix a second; {minutes:g} minutes at {share:.0%} of it")
        outcomes, samples = await run(suite, traffic, catalogues, most * share, minutes * 60)
    verdict = judge(outcomes, samples)
    folder.mkdir(parents=True, exist_ok=True)
    draw(outcomes, samples, folder / "soak.png")
    (folder / "soak.json").write_text(
        json.dumps(
            {"machine": machine(), "capacity_per_s": most, "minutes": minutes, "share": share, **asdict(verdict)},
            indent=1,
        )
        + "\n"
    )
    return verdict


def main() -> int:
    """Print the verdict, and end with 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="(default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.7, help="of the capacity (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(".build/soak"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    verdict = asyncio.run(soak(arguments.minutes, arguments.share, arguments.output))
    print(json.dumps(asdict(verdict), indent=1))
    for failure in verdict.failures:
        print(f"NOT AS IT MUST BE: {failure}")
    return 1 if verdict.failures else 0


if __name__ == "__main__":
    sys.exit(main())
