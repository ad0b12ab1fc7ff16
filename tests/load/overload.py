"""What becomes of work that is asked for at ten times the rate that can be done: `make overload`.

Clips of a second are asked for in an open loop: callers do not wait for each other, as strangers do not. The peak is
what the suite does at the rates below; goodput is what it still does at ten times its capacity.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections import Counter
from dataclasses import dataclass

import grpc
from rich.console import Console
from rich.table import Table
from traffic import Outcome, Traffic, loaded_suite


@dataclass(frozen=True)
class Step:
    """One rate for a while."""

    asked_per_s: float
    done_per_s: float
    codes: dict[str, int]
    refused_p50_ms: float
    refused_p99_ms: float
    told_when: float  # share of the refusals that say when to come again
    done_p50_s: float


async def capacity(traffic: Traffic, seconds: float, at_a_time: int) -> float:
    """Return how many clips a second are done when a few callers ask one after the other."""
    clock = asyncio.get_running_loop().time
    until, done = clock() + seconds, 0

    async def ask() -> None:
        nonlocal done
        while clock() < until:
            outcome = await traffic.call("clip")
            done += outcome.code is grpc.StatusCode.OK

    started = clock()
    await asyncio.gather(*(ask() for _ in range(at_a_time)))
    return done / (clock() - started)


async def open_loop(traffic: Traffic, per_s: float, seconds: float) -> Step:
    """Ask at a steady rate, whether or not answers come."""
    clock = asyncio.get_running_loop().time
    started, calls = clock(), []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, started + number / per_s - clock()))
        calls.append(asyncio.create_task(traffic.call("clip")))
    outcomes: list[Outcome] = await asyncio.gather(*calls)
    took = clock() - started
    refused = sorted(1000 * one.took_s for one in outcomes if one.code is grpc.StatusCode.RESOURCE_EXHAUSTED)
    done = [one.took_s for one in outcomes if one.code is grpc.StatusCode.OK]
    told = [one.told_when for one in outcomes if one.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    return Step(
        asked_per_s=per_s,
        done_per_s=len(done) / took,
        codes=dict(Counter(one.code.name for one in outcomes)),
        refused_p50_ms=statistics.median(refused) if refused else 0.0,
        refused_p99_ms=refused[int(0.99 * (len(refused) - 1))] if refused else 0.0,
        told_when=sum(told) / len(told) if told else 1.0,
        done_p50_s=statistics.median(done) if done else 0.0,
    )


async def run(seconds: float) -> tuple[float, list[Step]]:
    """Measure the capacity, then the rates."""
    async with loaded_suite() as (_, traffic):
        await capacity(traffic, 3, 2)
        most = await capacity(traffic, seconds, 4)
        steps = []
        for factor in (0.5, 0.9, 2, 10):
            steps.append(await open_loop(traffic, most * factor, seconds))
            await asyncio.sleep(1)
        return most, steps


def main() -> int:
    """Print a table, and end with 1 if overload costs work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of each rate (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    most, steps = asyncio.run(run(arguments.seconds))
    peak = max([most, *(step.done_per_s for step in steps)])
    ratio = steps[-1].done_per_s / peak
    if arguments.json:
        print(json.dumps({"capacity": most, "goodput": ratio, "steps": [vars(step) for step in steps]}, indent=1))
    else:
        table = Table(title=f"clips of a second; capacity {most:.1f} a second")
        for head in ("asked /s", "done /s", "took, median", "refused, median / p99", "told when", "answers"):
            table.add_column(head, justify="right")
        for step in steps:
            table.add_row(
                f"{step.asked_per_s:.1f}",
                f"{step.done_per_s:.1f}",
                f"{step.done_p50_s:.1f} s",
                f"{step.refused_p50_ms:.0f} / {step.refused_p99_ms:.0f} ms",
                f"{step.told_when:.0%}",
                ", ".join(f"{code} {count}" for code, count in step.codes.items()),
            )
        console = Console()
        console.print(table)
        console.print(f"goodput at ten times the capacity: {ratio:.2f} of the peak")
    return 0 if ratio >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
