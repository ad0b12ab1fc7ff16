"""A camera that films on and on, through the whole suite: `make live`, or `python tests/load/live.py --minutes 60`.

The sample film over and over, encoded as MPEG-TS while it is sent, as fast as it would be filmed. Memory of each
process (the decoder's with the one that decodes), how long ago what is told was sent, and what was dropped,
each minute; and the last third against the first. Ends with 1 if memory or the lag grew by more than they may.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machine import machine
from process_costs import tree
from traffic import CATALOG, FILM, SERVICES, held, loaded_suite

from shoppable.client import OrchestratorClient
from shoppable.v1 import orchestrator_pb2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.live_camera import LiveCamera

MEMORY_GROWTH = 1.1
LAG_GROWTH_S = 1.0
_SAMPLE_S = 5.0
_WARM_UP = 0.1


@dataclass
class Seen:
    """What was seen of a run."""

    memory_mb: list[dict[str, float]] = field(default_factory=list)  # by process
    start_s: float = 0.0  # from the first byte to the first word
    lags_s: list[float] = field(default_factory=list)
    told_s: dict[str, float] = field(default_factory=dict)  # by object: how long after it could be known
    final: int = 0
    progress: orchestrator_pb2.AnnotateProgress = field(default_factory=orchestrator_pb2.AnnotateProgress)
    summary: orchestrator_pb2.AnnotateSummary = field(default_factory=orchestrator_pb2.AnnotateSummary)


async def film(minutes: float, rate: int, frames_per_second: float) -> Seen:
    """Film for so long and return what was seen."""
    seen = Seen()
    async with loaded_suite() as (suite, traffic, _):
        camera = LiveCamera(FILM, seconds=60 * minutes, rate=rate)
        names = (*SERVICES, "inference")
        watching = asyncio.create_task(_watch(seen, lambda: {name: _memory_mb(suite.pids[name]) for name in names}))
        options = orchestrator_pb2.AnnotateOptions(
            catalog=CATALOG,
            include_provisional_objects=True,
            sampling={"frames_per_second": frames_per_second},
            live={},
        )
        client: OrchestratorClient = traffic.orchestrator
        async for message in client.stream_annotate(camera.chunks(), options):
            match message.WhichOneof("response"):
                case "video":
                    seen.start_s = camera.lag_s(0.0)
                case "progress" if not camera.over:
                    seen.progress = message.progress
                    seen.lags_s.append(camera.lag_s(message.progress.time.ToMicroseconds() / 1e6))
                case "object":
                    seen.final += message.object.final
                    # It could be known by its third sighting.
                    known_s = message.object.segments[0].start.ToMicroseconds() / 1e6 + 2 / frames_per_second
                    if not message.object.final:
                        seen.told_s.setdefault(message.object.object_id, camera.lag_s(known_s))
                case "summary":
                    seen.summary = message.summary
        if watching.done():
            watching.result()  # raises what ended it
        watching.cancel()
    return seen


async def _watch(seen: Seen, look: Callable[[], dict[str, float]]) -> None:
    started, told = time.monotonic(), 0
    while True:
        await asyncio.sleep(_SAMPLE_S)
        seen.memory_mb.append(look())
        if time.monotonic() - started >= 60 * (told + 1):
            told += 1
            memory = ", ".join(f"{name} {size:.0f}" for name, size in seen.memory_mb[-1].items())
            recent = seen.lags_s[-100:]
            print(
                f"minute {told}: MB {memory}; lag {statistics.median(recent):.2f} s, at most {max(recent):.2f};"
                f" {seen.progress.frames_sampled} frames, {seen.progress.frames_dropped} dropped; {seen.final} final",
                flush=True,
            )


def _memory_mb(pid: int | None) -> float:
    return held(list(tree(pid))).rss_mb if pid else 0.0


def figures(seen: Seen) -> dict[str, object]:
    """Hold the last third against the first."""
    memory, lags = (_thirds(values) for values in (seen.memory_mb, seen.lags_s))

    def of(some: Sequence[dict[str, float]], name: str) -> float:
        return statistics.median(sample[name] for sample in some)

    names, told = seen.memory_mb[-1], list(seen.told_s.values())
    return {
        "machine": machine(),
        "memory_mb": {name: round(of(memory[1], name)) for name in names},
        "memory_growth": {name: round(of(memory[1], name) / of(memory[0], name), 3) for name in names},
        "start_s": round(seen.start_s, 2),
        "lag_s": {
            "first third": round(statistics.median(lags[0]), 2),
            "last third": round(statistics.median(lags[1]), 2),
            "95th of 100": round(statistics.quantiles(seen.lags_s, n=20)[-1], 2),
            "most": round(max(seen.lags_s), 2),
        },
        "told_s": {"median": round(statistics.median(told), 2), "most": round(max(told), 2)},
        "frames": {"sampled": seen.summary.frames_sampled, "dropped": seen.summary.frames_dropped},
        "objects": seen.summary.objects,
    }


def _thirds(values: list) -> tuple[list, list]:
    kept = values[int(_WARM_UP * len(values)) :]
    third = max(1, len(kept) // 3)
    return kept[:third], kept[-third:]


def main() -> int:
    """Print what was seen, and end with 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="(default: %(default)s)")
    parser.add_argument("--rate", type=int, default=12, help="the camera's frames a second (default: %(default)s)")
    parser.add_argument("--frames-per-second", type=float, default=5, help="that are looked at (default: %(default)s)")
    arguments = parser.parse_args()
    found = figures(asyncio.run(film(arguments.minutes, arguments.rate, arguments.frames_per_second)))
    print(json.dumps(found, indent=1))
    grown = [
        f"{name}'s memory grew to {ratio}" for name, ratio in found["memory_growth"].items() if ratio > MEMORY_GROWTH
    ]
    if found["lag_s"]["last third"] > found["lag_s"]["first third"] + LAG_GROWTH_S:
        grown.append("the lag grew")
    for text in grown:
        print(f"NOT AS IT MUST BE: {text}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
