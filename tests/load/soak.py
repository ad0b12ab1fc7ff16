"""Hours of ordinary work, watched: `make soak`, or `python tests/load/soak.py --minutes 30`.

Films, clips, searches and imports are asked for in an open loop at a share of the measured capacity. Memory,
descriptors and latency are kept; afterwards the last third is held against the first. Ends with 1 if a call failed, or
memory or latency grew by more than they may. Writes a picture and a JSON file.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from rich.console import Console
from traffic import Held, Outcome, Traffic, holdings, loaded_suite

from shoppable.local.suite import LocalSuite

MIX = {"film": 1, "clip": 6, "search": 20, "import": 3}
MEMORY_GROWTH = 1.1  # of the last third over the first; the start is not counted
LATENCY_GROWTH = 1.5
_SAMPLE_S = 5.0
_WARM_UP = 0.1
_COLOURS = ((70, 120, 190), (225, 120, 100), (90, 160, 90), (150, 110, 180), (160, 140, 60))


@dataclass(frozen=True)
class Sample:
    """A look at the processes."""

    at_s: float
    held: dict[str, Held]


@dataclass(frozen=True)
class Verdict:
    """The last third of the run against the first."""

    calls: dict[str, int]
    codes: dict[str, int]
    memory_growth: dict[str, float]
    descriptor_growth: dict[str, int]
    latency_growth: dict[str, float]

    @property
    def failures(self) -> list[str]:
        """Say what is not as it must be."""
        found = [f"{count} calls ended with {code}" for code, count in self.codes.items() if code != "OK"]
        found += [f"{name} grew to {ratio:.2f}" for name, ratio in self.memory_growth.items() if ratio > MEMORY_GROWTH]
        found += [f"{name} holds {more} descriptors more" for name, more in self.descriptor_growth.items() if more > 8]
        found += [
            f"a {kind} takes {ratio:.2f}" for kind, ratio in self.latency_growth.items() if ratio > LATENCY_GROWTH
        ]
        return found


async def mixes_per_s(traffic: Traffic, seconds: float) -> float:
    """Return how many times a second the whole mix can be done, four callers at a time."""
    chance, clock, done = random.Random(0), time.monotonic, 0
    started = clock()

    async def ask() -> None:
        nonlocal done
        while clock() < started + seconds:
            await traffic.call(_draw(chance))
            done += 1

    await asyncio.gather(*(ask() for _ in range(4)))
    return done / (clock() - started)


async def run(suite: LocalSuite, traffic: Traffic, per_s: float, seconds: float) -> tuple[list[Outcome], list[Sample]]:
    """Ask at this rate for so long, and look at the processes meanwhile."""
    chance, started = random.Random(1), time.monotonic()
    samples: list[Sample] = []

    async def watch() -> None:
        while True:
            samples.append(Sample(time.monotonic() - started, holdings(suite)))
            await asyncio.sleep(_SAMPLE_S)

    watching = asyncio.create_task(watch())
    calls: set[asyncio.Task[Outcome]] = set()
    outcomes: list[Outcome] = []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
        task = asyncio.create_task(traffic.call(_draw(chance)))
        calls.add(task)
        task.add_done_callback(lambda done: (calls.discard(done), outcomes.append(done.result())))
    await asyncio.gather(*calls)
    watching.cancel()
    return outcomes, samples


def _draw(chance: random.Random) -> str:
    return chance.choices(list(MIX), list(MIX.values()))[0]


def judge(outcomes: Sequence[Outcome], samples: Sequence[Sample]) -> Verdict:
    """Hold the last third against the first."""
    kept = samples[int(_WARM_UP * len(samples)) :]
    third = max(1, len(kept) // 3)
    early, late = kept[:third], kept[-third:]
    names = kept[-1].held
    ordered = sorted(outcomes, key=lambda one: one.started)

    def memory(some: Sequence[Sample], name: str) -> float:
        return statistics.median(sample.held[name].rss_mb for sample in some)

    def latency(some: Sequence[Outcome], kind: str) -> float:
        return statistics.median([one.took_s for one in some if one.kind == kind] or [0.0])

    first, last = ordered[: len(ordered) // 3], ordered[-len(ordered) // 3 :]
    return Verdict(
        calls=dict(Counter(one.kind for one in outcomes)),
        codes=dict(Counter(one.code.name for one in outcomes)),
        memory_growth={name: memory(late, name) / memory(early, name) for name in names},
        descriptor_growth={
            name: round(
                statistics.median(one.held[name].descriptors for one in late)
                - statistics.median(one.held[name].descriptors for one in early)
            )
            for name in names
        },
        latency_growth={kind: latency(last, kind) / (latency(first, kind) or 1.0) for kind in MIX},
    )


def draw(outcomes: Sequence[Outcome], samples: Sequence[Sample], path: Path) -> None:
    """Write a picture: memory of each process above, seconds of each call below, both over the run."""
    width, height, pad = 1200, 320, 60
    sheet = Image.new("RGB", (width + 2 * pad, 2 * (height + pad) + pad), "white")
    pen = ImageDraw.Draw(sheet)
    start, length = min(one.started for one in outcomes), samples[-1].at_s or 1.0
    highest = max(held.rss_mb for sample in samples for held in sample.held.values())
    longest = max(one.took_s for one in outcomes)
    for top, title in (
        (pad, f"resident memory, 0..{highest:.0f} MB"),
        (2 * pad + height, f"calls, 0..{longest:.1f} s"),
    ):
        pen.rectangle((pad, top, pad + width, top + height), outline=(120, 120, 130))
        pen.text((pad, top - 30), f"{title}, over {length / 60:.0f} minutes", fill=(30, 30, 40))
    for index, name in enumerate(samples[0].held):
        colour = _COLOURS[index % len(_COLOURS)]
        line = [
            (pad + width * sample.at_s / length, pad + height * (1 - sample.held[name].rss_mb / highest))
            for sample in samples
            if name in sample.held
        ]
        pen.line(line, fill=colour, width=2)
        pen.text((pad + 120 * index + 320, pad - 30), name, fill=colour)
    bottom = 2 * (pad + height)
    for index, kind in enumerate(MIX):
        colour = _COLOURS[index % len(_COLOURS)]
        pen.text((pad + 120 * index + 320, 2 * pad + height - 30), kind, fill=colour)
        for one in outcomes:
            if one.kind == kind:
                x, y = pad + width * (one.started - start) / length, bottom - height * one.took_s / longest
                pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


async def soak(minutes: float, share: float, folder: Path) -> Verdict:
    """Run it all and keep what was seen."""
    console = Console(stderr=True)
    async with loaded_suite() as (suite, traffic):
        await mixes_per_s(traffic, 5)
        most = await mixes_per_s(traffic, 30)
        console.print(f"capacity: {most:.1f} calls of the mix a second; {minutes:g} minutes at {share:.0%} of it")
        outcomes, samples = await run(suite, traffic, most * share, minutes * 60)
    verdict = judge(outcomes, samples)
    folder.mkdir(parents=True, exist_ok=True)
    draw(outcomes, samples, folder / "soak.png")
    (folder / "soak.json").write_text(
        json.dumps({"capacity_per_s": most, "minutes": minutes, "share": share, **asdict(verdict)}, indent=1) + "\n"
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
