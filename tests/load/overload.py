"""What becomes of work that is asked for at ten times the rate that can be done: `make overload`.

Each service is asked in an open loop: callers do not wait for each other, as strangers do not. The peak is the most
that it does at any of the rates; goodput is what it still does at ten times its capacity. Strangers bring their own
computers, so the callers have the last core to themselves and the suite has the others; what they take of theirs is
printed beside, since a caller that cannot keep up would not ask as often as it should.
"""

import argparse
import asyncio
import functools
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
from google.protobuf.message import Message
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from machine import machine
from rich.console import Console
from rich.table import Table
from traffic import CATALOG, FILM, loaded_suite

from shoppable.client import ShoppableError
from shoppable.client.channels import channel_options
from shoppable.client.errors import translated
from shoppable.client.streams import call_stream
from shoppable.local.locations import SAMPLES
from shoppable.local.suite import SERVICES, LocalSuite
from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_matcher_pb2,
    server_info_pb2,
    server_info_pb2_grpc,
)

WANTED_GOODPUT, WANTED_REFUSAL_MS = 0.9, 50
RATES = (2, 10)  # of the capacity
CALLERS = 4  # that ask one call after the other, for the capacity
_RAMP_S, _RAMP_LIMIT_S = 2.0, 20.0
_DEADLINE_S = 120
Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Ended:
    """How a call went."""

    at: float  # time.monotonic()
    took_s: float
    code: str
    told_when: bool = False  # whether a refusal says when to come again

    def share_within(self, start: float, end: float) -> float:
        """Return which share of its time falls between two others, 0..1."""
        return max(0.0, min(self.at, end) - max(self.at - self.took_s, start)) / self.took_s


@dataclass
class Step:
    """One rate for a while. Numbers a second are of the time after the ramp."""

    rate: str
    asked_per_s: float
    done_per_s: float
    done_p50_s: float
    refused_p50_ms: float
    refused_p99_ms: float
    told_when: float  # share of the refusals that say when to come again
    callers_cpu: float  # share of their core
    calls: dict[str, float] = field(default_factory=dict)  # started at each service, for a call that was asked or done
    codes: dict[str, int] = field(default_factory=dict)


async def ended(ask: Ask) -> Ended:
    """Make one call, whatever comes of it."""
    started, code, told = time.monotonic(), "OK", False
    try:
        with translated():
            await ask()
    except ShoppableError as error:
        code, told = error.code.name, error.retry_after_s is not None
    now = time.monotonic()
    return Ended(now, now - started, code, told)


async def closed_loop(ask: Ask, seconds: float) -> list[Ended]:
    """Ask with a few callers, each one call after the other."""
    until, calls = time.monotonic() + seconds, list[Ended]()

    async def work() -> None:
        while time.monotonic() < until:
            calls.append(await ended(ask))

    await asyncio.gather(*(work() for _ in range(CALLERS)))
    return calls


async def open_loop(ask: Ask, per_s: float, seconds: float) -> list[Ended]:
    """Ask at a steady rate, whether or not answers come."""
    started, calls = time.monotonic(), []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
        calls.append(asyncio.create_task(ended(ask)))
    return await asyncio.gather(*calls)


async def step(
    rate: str,
    work: Callable[[float], Awaitable[list[Ended]]],
    ramp_s: float,
    seconds: float,
    counts: Callable[[], Awaitable[Counter[str]]],
) -> Step:
    """Do a step and look at what came of it after the ramp, in which the service fills.

    A call that is done counts for the share of its time after the ramp and before the end: many begin together and end
    together, so whole calls would count the edges of the waves.
    """
    before, own, started = await counts(), time.process_time(), time.monotonic()
    calls = await work(ramp_s + seconds)
    # Callers wait for their last answers; the rates are those of the time in which there was work to do.
    took, until = time.monotonic() - started, started + ramp_s + seconds
    own = (time.process_time() - own) / took
    done = [one for one in calls if one.code == "OK" and one.share_within(started + ramp_s, until)]
    refused = sorted(1000 * one.took_s for one in calls if one.code == "RESOURCE_EXHAUSTED")
    told = [one.told_when for one in calls if one.code == "RESOURCE_EXHAUSTED"]
    codes = Counter(one.code for one in calls)
    started_calls = {name: count - before[name] for name, count in (await counts()).items()}
    return Step(
        rate=rate,
        asked_per_s=len(calls) / (ramp_s + seconds),
        done_per_s=sum(one.share_within(started + ramp_s, until) for one in done) / seconds,
        done_p50_s=statistics.median(one.took_s for one in done) if done else 0.0,
        refused_p50_ms=statistics.median(refused) if refused else 0.0,
        refused_p99_ms=refused[int(0.99 * (len(refused) - 1))] if refused else 0.0,
        told_when=sum(told) / len(told) if told else 1.0,
        callers_cpu=own,
        calls={name: count / max(1, codes["OK"]) for name, count in started_calls.items()},
        codes=dict(codes),
    )


async def measure(
    ask: Ask, places: int, seconds: float, counts: Callable[[], Awaitable[Counter[str]]]
) -> tuple[float, list[Step]]:
    """Measure the capacity of a service with so many places, then the rates; return the goodput and the steps."""
    steps = [await step("capacity", lambda length: closed_loop(ask, length), _RAMP_S, seconds, counts)]
    most = steps[0].done_per_s
    # What is let in first is done when every place has been served once.
    ramp_s = min(_RAMP_LIMIT_S, max(_RAMP_S, 1.5 * places / most))
    for factor in RATES:
        asking = functools.partial(open_loop, ask, most * factor)
        steps.append(await step(f"{factor:g} times", asking, ramp_s, seconds, counts))
        await asyncio.sleep(0.5)
    return steps[-1].done_per_s / max(one.done_per_s for one in steps), steps


async def places_of(channel: grpc.aio.Channel) -> int:
    """Return how many calls a service lets in."""
    info = await server_info_pb2_grpc.ServerInfoServiceStub(channel).GetServerInfo(
        server_info_pb2.GetServerInfoRequest()
    )
    return next(limit.value for limit in info.limits if limit.name == "max_concurrent_calls")


def asks(channels: dict[str, grpc.aio.Channel]) -> dict[str, Ask]:
    """Return an ordinary call to each service."""
    film = common_pb2.VideoSource(uri=FILM.as_uri())
    pictures = [common_pb2.Image(data=path.read_bytes()) for path in sorted(SAMPLES.rglob("*.jpg"))[:4]]
    # A clip of a second, the views of one thing, one picture, and a film of 14 s, as callers and services ask for.
    options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, end_time={"seconds": 1}, omit_thumbnails=True)
    search = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
    search.queries.add(views=[{"image": picture} for picture in pictures])
    config = frame_decoder_pb2.DecodeFramesConfig(source=film, sampling=common_pb2.FrameSampling(frames_per_second=5))
    unary: dict[str, tuple[str, Message]] = {
        "orchestrator": (
            "OrchestratorService/AnnotateVideo",
            orchestrator_pb2.AnnotateVideoRequest(source=film, options=options),
        ),
        "detector": (
            "ObjectDetectorService/DetectObjects",
            object_detector_pb2.DetectObjectsRequest(images=pictures[:1]),
        ),
        "matcher": ("ProductMatcherService/MatchProducts", search),
    }

    def once(service: str, method: str, request: Message) -> Ask:
        call, encoded = channels[service].unary_unary(f"/shoppable.v1.{method}"), request.SerializeToString()
        return lambda: call(encoded, timeout=_DEADLINE_S)

    decode = channels["decoder"].stream_stream("/shoppable.v1.FrameDecoderService/DecodeFrames")
    first = frame_decoder_pb2.DecodeFramesRequest(config=config).SerializeToString()

    async def config_alone() -> AsyncIterator[bytes]:
        yield first

    async def frames() -> None:
        async for _ in call_stream(decode, config_alone(), timeout_s=_DEADLINE_S):
            pass

    return {name: once(name, *call) for name, call in unary.items()} | {"decoder": frames}


async def calls_started(channels: dict[str, grpc.aio.Channel]) -> Counter[str]:
    """Return how many calls each service has been asked for, by itself or by another."""
    started: Counter[str] = Counter()
    for name, channel in channels.items():
        servers = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest())
        started[name] = sum(server.data.calls_started for server in servers.server)
    return started


async def run(services: Sequence[str], seconds: float) -> dict[str, tuple[float, list[Step]]]:
    """Measure the services, one after the other."""
    *cores, last = sorted(os.sched_getaffinity(0))
    _move_to(cores or [last])
    async with loaded_suite() as (suite, *_):
        _move_to([last])
        channels = {name: _open(suite, name) for name in SERVICES}
        every = asks(channels)
        measured = {}
        for name in services:
            await closed_loop(every[name], 2)  # warm
            places = await places_of(channels[name])
            measured[name] = await measure(every[name], places, seconds, lambda: calls_started(channels))
        for channel in channels.values():
            await channel.close()
        return measured


def _move_to(cores: Sequence[int]) -> None:
    """Run this process, and what it starts from now on, on these cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def _open(suite: LocalSuite, name: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(getattr(suite.endpoints, name), options=channel_options())


def failures(measured: dict[str, tuple[float, list[Step]]]) -> list[str]:
    """Say what is not as it must be."""
    found = []
    for service, (goodput, steps) in measured.items():
        last = steps[-1]
        if goodput < WANTED_GOODPUT:
            found.append(f"{service}: goodput {goodput:.2f} of the peak")
        if last.refused_p99_ms >= WANTED_REFUSAL_MS:
            found.append(f"{service}: refused after {last.refused_p99_ms:.0f} ms")
        if last.told_when < 1:
            found.append(f"{service}: only {last.told_when:.0%} of the refusals say when to come again")
        if strange := last.codes.keys() - {"OK", "RESOURCE_EXHAUSTED"}:
            found.append(f"{service}: {', '.join(strange)}")
    return found


def main() -> int:
    """Print a table, and end with 1 if overload costs work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("services", nargs="*", help=f"of {', '.join(SERVICES)} (default: all)")
    parser.add_argument("--seconds", type=float, default=15, help="of each rate (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, for tools/reliability_page.py")
    arguments = parser.parse_args()
    said = machine()
    measured = asyncio.run(run(arguments.services or SERVICES, arguments.seconds))
    console = Console(width=150)
    console.print(said)
    for name, (goodput, steps) in measured.items():
        table = Table(title=f"{name}: at ten times the capacity {goodput:.2f} of the peak")
        for head in ("rate", "asked /s", "done /s", "took", "refused p50 / p99", "told when", "callers' CPU",
                     "calls for one done", "answers"):  # fmt: skip
            table.add_column(head, justify="right")
        for one in steps:
            table.add_row(
                one.rate,
                f"{one.asked_per_s:.1f}",
                f"{one.done_per_s:.1f}",
                f"{one.done_p50_s:.2f} s",
                f"{one.refused_p50_ms:.0f} / {one.refused_p99_ms:.0f} ms",
                f"{one.told_when:.0%}",
                f"{one.callers_cpu:.0%}",
                ", ".join(f"{service[:3]} {count:.1f}" for service, count in one.calls.items()),
                ", ".join(f"{code} {count}" for code, count in one.codes.items()),
            )
        console.print(table)
    for failure in failures(measured):
        console.print(f"NOT AS IT MUST BE: {failure}")
    if arguments.json:
        services = {name: [goodput, [asdict(one) for one in steps]] for name, (goodput, steps) in measured.items()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"machine": said, "services": services}, indent=1) + "\n")
    return 1 if failures(measured) else 0


if __name__ == "__main__":
    sys.exit(main())
