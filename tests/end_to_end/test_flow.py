"""What the services themselves say of calls that come and go: the metrics of each process of the suite."""

import asyncio
import contextlib
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from shoppable.client import OrchestratorClient, ShoppableError, open_channel
from shoppable.v1 import orchestrator_pb2
from support.catalogs import CATALOG
from support.live_camera import LiveCamera

# The method of each service that works for a stream of a caller's.
METHODS = {
    "orchestrator": "StreamAnnotateVideo",
    "decoder": "DecodeFrames",
    "detector": "StreamDetectObjects",
    "matcher": "MatchProducts",
}
MODELS = 3  # two detectors and the embedder; a health check asks each for one inference
LIMIT_S = 60
_STILL_S = 2.0


class Meters:
    """The metrics of the suite's services, as Prometheus reads them."""

    def __init__(self, logs: Path) -> None:
        found = {name: re.findall(r"metrics_port\W+(\d+)", _plain(logs / f"{name}.log")) for name in METHODS}
        self._urls = {name: f"http://127.0.0.1:{ports[-1]}/metrics" for name, ports in found.items()}

    def read(self, service: str, metric: str, *labels: str) -> float:
        """Return the sum of a metric of a service over what has these labels."""
        with urllib.request.urlopen(self._urls[service], timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if re.match(rf"{metric}[{{ ]", line) and all(label in line for label in labels)
        )

    def in_work(self) -> dict[str, float]:
        """Return how many of the callers' streams each service has in work."""
        return {name: self.read(name, "shoppable_calls_in_work", f'"{method}"') for name, method in METHODS.items()}

    def work_done(self) -> float:
        """Return a count that rises with all that the detector and the matcher have computed."""
        return sum(self.read(name, "shoppable_inferences_total") for name in ("detector", "matcher"))


def _plain(log: Path) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())


@pytest.fixture(scope="module")
def meters(suite) -> Meters:
    return Meters(suite.logs)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.002)


async def film(suite, samples: Path, *, timeout_s: float | None = None) -> None:
    options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, include_provisional_objects=True)
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        async for _ in OrchestratorClient(channel).stream_annotate(samples / "film.mp4", options, timeout_s=timeout_s):
            pass


@pytest.mark.parametrize("ending", ["cancel", "deadline"])
async def test_callers_that_leave_end_the_work_in_every_service(suite, meters, samples: Path, ending: str):
    await until(lambda: not any(meters.in_work().values()))
    # A deadline by which the films are well under way, and not done: three take seconds.
    calls = [
        asyncio.create_task(film(suite, samples, timeout_s=3.0 if ending == "deadline" else None)) for _ in range(3)
    ]
    await until(lambda: all(meters.in_work().values()))
    if ending == "cancel":
        for call in calls:
            call.cancel()
    endings = await asyncio.gather(*calls, return_exceptions=True)
    left = time.monotonic()
    await until(lambda: not any(meters.in_work().values()))
    print(f"{ending}: every service is free {1e3 * (time.monotonic() - left):.0f} ms later")
    if ending == "cancel":
        assert all(isinstance(error, asyncio.CancelledError) for error in endings)
    else:
        assert all(isinstance(error, ShoppableError) for error in endings), endings
        assert {error.code for error in endings} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    # What Triton was computing it ends; nothing more is given to it, but for one round of the health checks. No process
    # decodes any more.
    await asyncio.sleep(0.3)
    quiet = meters.work_done()
    await asyncio.sleep(0.7)
    assert meters.work_done() - quiet <= MODELS
    assert workers_of(suite.pid("decoder")) == []


async def test_a_caller_that_does_not_read_stops_all_services_and_its_own_upload(suite, meters, samples: Path):
    options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, include_provisional_objects=True)
    # Hours of film, as fast as it is taken.
    camera = LiveCamera(samples / "film.mp4", seconds=7200, paced=False)
    # A window of 64 KiB that does not grow.
    narrow = grpc.aio.insecure_channel(suite.endpoints["orchestrator"], options=[("grpc.http2.bdp_probe", 0)])
    async with narrow:
        stream = OrchestratorClient(narrow).stream_annotate(camera.chunks(), options, timeout_s=2 * LIMIT_S)
        async with contextlib.aclosing(stream) as messages:
            assert (await anext(messages)).HasField("video")
            sent_s, done = await standstill(lambda: (camera.sent_s, meters.work_done()))
            print(f"stopped when {sent_s:.0f} s of film were sent")
            assert all(meters.in_work()[name] for name in ("orchestrator", "decoder", "detector"))
            async for _ in messages:  # it goes on where it stopped
                if camera.sent_s > sent_s and meters.work_done() > done:
                    break


async def standstill(look: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """Wait until nothing changes any more for a while, and return what it was."""
    latest, since = await asyncio.to_thread(look), time.monotonic()
    async with asyncio.timeout(LIMIT_S):
        while time.monotonic() - since < _STILL_S:
            await asyncio.sleep(0.2)
            now = await asyncio.to_thread(look)
            if now != latest:
                latest, since = now, time.monotonic()
    return latest


def workers_of(decoder: int | None) -> list[int]:
    """Return the processes that decode: the children of the decoder's fork server."""
    return [worker for server in _children(decoder) for worker in _children(server)]


def _children(pid: int | None) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
