"""Three replicas of a service: they share the load, and one of them can go and come back while calls run.

A product matcher with the embedded index owns its folder, so it has one replica; it is restarted under load all the
same. Several matchers need a Qdrant server.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoppable.cli.importing import import_feed
from shoppable.client import (
    CatalogClient,
    DecoderClient,
    DetectorClient,
    OrchestratorClient,
    ShoppableError,
    open_channel,
)
from shoppable.v1 import common_pb2, frame_decoder_pb2, orchestrator_pb2
from support.catalogs import CATALOG
from support.replicas import Replicas

COUNT = 3
AT_A_TIME = 3
DEADLINE_S = 60
SHARE_LIMIT_S = 30
PAUSE_S = 0.1  # between a caller's calls, so that what is restarted finds a core
DRAIN_S = 0.5  # for which a replica that is to end says so and still answers
HEALTH_INTERVAL_S = 0.1

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Suite(dict[str, Replicas]):
    """The replicas of each service, and a call to each as a caller would make it."""

    def __init__(self, samples: Path, replicas: dict[str, Replicas]) -> None:
        super().__init__(replicas)
        self._film = (samples / "film.mp4").as_uri()
        self._picture = common_pb2.Image(data=min((samples / "catalog").glob("*.jpg")).read_bytes())

    async def decode(self, channel: grpc.aio.Channel) -> None:
        config = frame_decoder_pb2.DecodeFramesConfig(end_time={"seconds": 1}, longest_side=64)
        frames = [answer async for answer in DecoderClient(channel).decode(self._film, config, timeout_s=DEADLINE_S)]
        assert frames[-1].summary.frames_sent == 5

    async def detect(self, channel: grpc.aio.Channel) -> None:
        answer = await DetectorClient(channel).detect([self._picture], timeout_s=DEADLINE_S)
        assert not answer.results[0].HasField("status")

    async def annotate(self, channel: grpc.aio.Channel) -> None:
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, end_time={"seconds": 1}, omit_thumbnails=True)
        call = OrchestratorClient(channel).stream_annotate(self._film, options, timeout_s=DEADLINE_S)
        summary = [answer async for answer in call][-1].summary
        assert (summary.frames_sampled, summary.frames_failed, summary.objects_unmatched) == (5, 0, 0)

    def asking(self, service: str) -> tuple[str, str, Callable[[grpc.aio.Channel], Coroutine[Any, Any, None]]]:
        """Return the target, the method and a call of it, for a service that has several replicas."""
        method, call = {
            "decoder": ("DecodeFrames", self.decode),
            "detector": ("DetectObjects", self.detect),
            "orchestrator": ("StreamAnnotateVideo", self.annotate),
        }[service]
        return self[service].target, method, call


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(samples: Path, triton_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    """Three of each but the matcher, on one Triton; tests must leave all of them running."""
    folder = tmp_path_factory.mktemp("replicas")
    triton, draining = f"--triton-endpoint={triton_endpoint}", f"--shutdown-delay-s={DRAIN_S}"
    async with contextlib.AsyncExitStack() as stack:

        async def started(service: str, count: int, *flags: str) -> Replicas:
            return await stack.enter_async_context(Replicas.started(service, count, folder, *flags))

        decoder, detector, matcher = await asyncio.gather(
            started("decoder", COUNT, f"--file-roots={samples}", draining),
            started("detector", COUNT, triton, draining),
            started("matcher", 1, triton, f"--data-dir={folder / 'catalogs'}"),
        )
        orchestrator = await started(
            "orchestrator",
            COUNT,
            f"--decoder-endpoint={decoder.target}",
            f"--detector-endpoint={detector.target}",
            f"--matcher-endpoint={matcher.target}",
            f"--health-interval-s={HEALTH_INTERVAL_S}",
        )
        async with open_channel(matcher.target) as channel:
            await import_feed(CatalogClient(channel), samples / "catalog.jsonl", catalog=CATALOG.partition("/")[2])
        every = {"decoder": decoder, "detector": detector, "matcher": matcher, "orchestrator": orchestrator}
        yield Suite(samples, every)


@dataclass
class Failed:
    """A call that failed, and when it began."""

    began: float
    error: ShoppableError


@dataclass
class Load:
    """Calls over one channel, a few at a time, until told to stop."""

    channel: grpc.aio.Channel
    call: Callable[[grpc.aio.Channel], Coroutine[Any, Any, None]]
    done: int = 0
    failed: list[Failed] = field(default_factory=list)
    stopping: bool = False

    async def _ask(self) -> None:
        while not self.stopping:
            began = time.monotonic()
            try:
                await self.call(self.channel)
                self.done += 1
            except ShoppableError as error:
                self.failed.append(Failed(began, error))
            await asyncio.sleep(PAUSE_S)

    async def until_done(self, more: int) -> None:
        """Wait until so many more calls have gone well."""
        goal = self.done + more
        async with asyncio.timeout(DEADLINE_S):
            while self.done < goal:
                await asyncio.sleep(0.02)

    @classmethod
    @contextlib.asynccontextmanager
    async def on(
        cls, target: str, call: Callable[[grpc.aio.Channel], Coroutine[Any, Any, None]], at_a_time: int = AT_A_TIME
    ) -> AsyncIterator["Load"]:
        """Load a target while inside; what was begun is let end."""
        async with open_channel(target) as channel, asyncio.TaskGroup() as tasks:
            load = cls(channel, call)
            for _ in range(at_a_time):
                tasks.create_task(load._ask())
            try:
                yield load
            finally:
                load.stopping = True


async def until_each_has_work(replicas: Replicas, method: str) -> None:
    """Wait until every replica answers calls."""
    before = await replicas.calls(method)
    async with asyncio.timeout(SHARE_LIMIT_S):
        while not all(now > then for now, then in zip(await replicas.calls(method), before, strict=True)):
            await asyncio.sleep(0.1)


async def shares(replicas: Replicas, method: str, load: Load, calls: int) -> list[float]:
    """Return which share of about so many calls each replica had."""
    before = await replicas.calls(method)
    await load.until_done(calls)
    had = [now - then for now, then in zip(await replicas.calls(method), before, strict=True)]
    return [count / sum(had) for count in had]


@pytest.mark.parametrize(("service", "calls"), [("decoder", 30), ("detector", 30), ("orchestrator", 12)])
async def test_replicas_have_the_same_share_of_the_load(suite: Suite, service: str, calls: int):
    target, method, call = suite.asking(service)
    async with Load.on(target, call) as load:
        await until_each_has_work(suite[service], method)
        had = await shares(suite[service], method, load, calls)
    assert not load.failed
    assert max(had) - min(had) < 0.2, had


async def test_orchestrators_spread_their_own_calls(suite: Suite):
    target, _, call = suite.asking("orchestrator")
    async with Load.on(target, call) as load:
        await until_each_has_work(suite["decoder"], "DecodeFrames")
        decoded = await shares(suite["decoder"], "DecodeFrames", load, 18)
    assert max(decoded) - min(decoded) < 0.4, decoded  # three callers take turns, each for itself


@pytest.mark.parametrize("service", ["decoder", "detector", "orchestrator"])
async def test_a_killed_replica_costs_its_calls_in_flight_and_gets_its_share_when_it_is_back(
    suite: Suite, service: str
):
    target, method, call = suite.asking(service)
    victim = suite[service].members[1]
    async with Load.on(target, call) as load:
        await until_each_has_work(suite[service], method)
        await victim.kill()
        killed = time.monotonic()
        await load.until_done(6)
        await victim.start()
        await until_each_has_work(suite[service], method)
        had = await shares(suite[service], method, load, 12)
    assert [failure.error for failure in load.failed if failure.began > killed] == []
    assert len(load.failed) <= AT_A_TIME
    assert {failure.error.code for failure in load.failed} <= {grpc.StatusCode.UNAVAILABLE}
    assert max(had) - min(had) < 0.3, had


@contextlib.asynccontextmanager
async def health_told_by(replicas: Replicas) -> AsyncIterator[set[int]]:
    """Collect what replicas say of themselves while inside; they must go on answering."""
    told: dict[str, set[int]] = {member.address: set() for member in replicas.members}

    async def watch(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            async for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
                told[address].add(answer.status)

    watches = [asyncio.create_task(watch(address)) for address in told]
    async with asyncio.timeout(DEADLINE_S):
        while not all(told.values()):
            await asyncio.sleep(0.02)
    every: set[int] = set()
    yield every
    assert not any(one.done() for one in watches)
    for one in watches:
        one.cancel()
    every.update(*told.values())


@pytest.mark.parametrize("service", ["decoder", "detector", "matcher", "orchestrator"])
async def test_a_rolling_restart_under_load_fails_no_call(suite: Suite, service: str):
    async with contextlib.AsyncExitStack() as stack:
        loads = [await stack.enter_async_context(Load.on(suite["orchestrator"].target, suite.annotate, 1))]
        if service in ("decoder", "detector"):
            target, _, call = suite.asking(service)
            loads.append(await stack.enter_async_context(Load.on(target, call)))
            told = await stack.enter_async_context(health_told_by(suite["orchestrator"]))
        else:
            told = {health_pb2.HealthCheckResponse.SERVING}
        for load in loads:
            await load.until_done(1)
        await suite[service].restart_one_after_another()
        for load in loads:
            await load.until_done(3)
    for load in loads:
        assert [str(failure.error) for failure in load.failed] == []
    assert told == {health_pb2.HealthCheckResponse.SERVING}, "who needs a service is ready while one of three drains"
