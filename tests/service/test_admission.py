"""Who is let in, who waits, in which order, and who is refused: a real server and callers with names."""

import asyncio
import contextlib
import time

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from shoppable.client import ShoppableError
from shoppable.runtime import metrics
from shoppable.runtime.accounts import ACCOUNT_KEY, host_of
from shoppable.runtime.interceptors import scope
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc
from support.scripted import scripted

SERVICE = "shoppable.v1.FrameDecoderService"
MESSAGE = frame_decoder_pb2.ProbeVideoRequest().SerializeToString()


class Waiting(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Holds each call until it is released."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.release = asyncio.Semaphore(0)

    async def ProbeVideo(self, request, context):
        self.begun.append(request.source.uri)
        await self.release.acquire()
        return frame_decoder_pb2.ProbeVideoResponse()


@contextlib.asynccontextmanager
async def served(**settings):
    servicer = Waiting()
    settings = {"caller_key": ACCOUNT_KEY, "shutdown_grace_s": 0} | settings
    async with (
        scripted("FrameDecoderService", servicer, **settings) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)

        def call(name: str, caller: str, **options: object) -> asyncio.Future:
            request = frame_decoder_pb2.ProbeVideoRequest(source=common_pb2.VideoSource(uri=name))
            return asyncio.ensure_future(
                _awaited(stub.ProbeVideo(request, metadata=((ACCOUNT_KEY, caller),), **options))
            )

        yield servicer, call


async def _awaited(call):
    return await call


async def until(condition, limit_s: float = 10):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


async def refusal(call) -> ShoppableError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return ShoppableError.from_rpc(caught.value)


async def _drained(stream):
    async for _ in stream:
        pass


def refused(method: str) -> float:
    labels = {"service": SERVICE, "method": method, "code": "RESOURCE_EXHAUSTED"}
    return REGISTRY.get_sample_value("shoppable_calls_total", labels) or 0


def waiting() -> float:
    return metrics.CALLS_WAITING._value.get()


async def test_one_caller_cannot_take_all_places():
    async with served(max_concurrent_calls=4, max_calls_per_caller=2) as (servicer, call):
        greedy = [call(f"greedy-{number}", "greedy") for number in range(2)]
        await until(lambda: len(servicer.begun) == 2)
        error = await refusal(call("greedy-2", "greedy"))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS_OF_CALLER")
        assert error.retry_after_s
        assert error.metadata == {"limit": "max_calls_per_caller", "value": "2"}
        modest = call("modest", "modest")
        await until(lambda: "modest" in servicer.begun)
        for _ in range(3):
            servicer.release.release()
        await asyncio.gather(*greedy, modest)


async def test_who_waits_is_let_in_in_turns_of_callers():
    async with served(max_concurrent_calls=1, max_queued_calls=10) as (servicer, call):
        calls = [call("first", "a")]
        await until(lambda: servicer.begun == ["first"])
        for number, name in enumerate(["a-1", "a-2", "a-3", "b-1", "b-2", "c-1"]):
            calls.append(call(name, name[0]))
            await until(lambda number=number: waiting() == number + 1)
        for number in range(len(calls)):
            servicer.release.release()
            await until(lambda number=number: len(servicer.begun) >= min(number + 2, len(calls)))
        await asyncio.gather(*calls)
    assert servicer.begun == ["first", "a-1", "b-1", "c-1", "a-2", "b-2", "a-3"]
    assert waiting() == 0


async def test_the_queue_is_bounded_and_the_refusal_is_quick_and_says_when_to_come_back():
    async with served(max_concurrent_calls=1, max_queued_calls=2) as (servicer, call):
        held = [call("held", "a"), call("waits-1", "a"), call("waits-2", "b")]
        await until(lambda: len(servicer.begun) == 1 and waiting() == 2)
        started = time.perf_counter()
        error = await refusal(call("refused", "c"))
        assert (error.reason, bool(error.retry_after_s)) == ("TOO_MANY_CALLS", True)
        assert time.perf_counter() - started < 2  # it did not wait in the queue of five seconds
        for _ in held:
            servicer.release.release()
        await asyncio.gather(*held)


async def test_calls_that_nobody_could_make_are_refused_at_the_door_counted_and_told_once_a_second():
    with structlog.testing.capture_logs() as logs:
        async with served(max_concurrent_calls=1, max_queued_calls=1) as (servicer, call):
            held = [call("held", "a"), call("waits", "b")]
            await until(lambda: len(servicer.begun) == 1 and waiting() == 1)
            before, begun = refused("ProbeVideo"), time.monotonic()
            errors = [await refusal(call(f"refused-{number}", "c")) for number in range(20)]
            took = time.monotonic() - begun
            for _ in held:
                servicer.release.release()
            await asyncio.gather(*held)
    assert {(error.code, error.reason) for error in errors} == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")}
    assert all(error.retry_after_s for error in errors)
    assert refused("ProbeVideo") == before + 20
    told = [entry["calls"] for entry in logs if entry["event"] == "calls refused at the door"]
    assert 1 <= len(told) <= took + 1
    assert sum(told) <= 20
    assert len([entry for entry in logs if entry["event"] == "call ended"]) == 2  # those that were let in


async def test_a_full_server_refuses_streams_too_and_still_tells_which_methods_it_has_and_how_it_is():
    servicer = Waiting()
    async with (
        scripted("FrameDecoderService", servicer, shutdown_grace_s=0, max_concurrent_calls=1) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        held = asyncio.ensure_future(_awaited(stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest())))
        await until(lambda: servicer.begun)
        assert (await refusal(_drained(stub.DecodeFrames()))).reason == "TOO_MANY_CALLS"
        assert (await refusal(channel.unary_unary(f"/{SERVICE}/Nothing")(b""))).code is grpc.StatusCode.UNIMPLEMENTED
        assert refused("Nothing") == 0
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        servicer.release.release()
        await held


async def test_one_caller_cannot_fill_the_queue_while_others_wait():
    async with served(max_concurrent_calls=1, max_queued_calls=4) as (servicer, call):
        calls = [call("held", "a")]
        await until(lambda: len(servicer.begun) == 1)
        calls.append(call("b-1", "b"))
        await until(lambda: waiting() == 1)
        calls += [call(f"a-{number}", "a") for number in range(2)]
        await until(lambda: waiting() == 3)
        assert (await refusal(call("a-2", "a"))).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        calls.append(call("b-2", "b"))
        await until(lambda: waiting() == 4)
        for _ in calls:
            servicer.release.release()
        await asyncio.gather(*calls)


async def test_who_waits_too_long_or_leaves_the_queue_frees_its_place_in_it():
    async with served(max_concurrent_calls=1, max_queued_calls=1, queue_wait_s=0.1) as (servicer, call):
        held = call("held", "a")
        await until(lambda: len(servicer.begun) == 1)
        assert (await refusal(call("late", "a"))).reason == "TOO_MANY_CALLS"
        gone = call("gone", "a", timeout=0.05)
        assert (await refusal(gone)).code is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: waiting() == 0)
        servicer.release.release()
        await held
        after = call("after", "a")
        servicer.release.release()
        await after
    assert servicer.begun == ["held", "after"]


async def test_a_name_is_believed_only_where_the_operator_says_so():
    async with served(max_concurrent_calls=4, max_calls_per_caller=1, caller_key=None) as (servicer, call):
        held = call("held", "one name")
        await until(lambda: len(servicer.begun) == 1)
        assert (await refusal(call("second", "another-name"))).reason == "TOO_MANY_CALLS_OF_CALLER"
        servicer.release.release()
        await held


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:51234", "10.0.0.7"),
        ("ipv6:[::1]:51234", "[::1]"),
        ("ipv6:%5B::1%5D:51234", "%5B::1%5D"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_the_host_of_a_peer(peer, host):
    assert host_of(peer) == host


@contextlib.asynccontextmanager
async def opened(**settings):
    """Serve, and yield calls of a unary method whose one message the caller has not sent yet."""
    servicer = Waiting()
    async with (
        scripted("FrameDecoderService", servicer, shutdown_grace_s=0, **settings) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield servicer, channel.stream_unary("/shoppable.v1.FrameDecoderService/ProbeVideo")


async def test_who_is_refused_is_so_before_the_message_is_taken_from_the_wire():
    async with opened(max_concurrent_calls=1) as (servicer, probe):
        first = probe()
        await first.write(MESSAGE)
        async with asyncio.timeout(10):
            while not servicer.begun:
                await asyncio.sleep(0.01)
        assert (await refusal(probe())).reason == "TOO_MANY_CALLS"
        servicer.release.release()
        await first


async def test_a_message_that_does_not_come_frees_its_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scope, "_ARRIVE_S", 0.2)
    async with opened(max_concurrent_calls=1) as (servicer, probe):
        error = await refusal(probe())
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_TOO_SLOW")
        empty = probe()
        await empty.done_writing()
        error = await refusal(empty)
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NO_MESSAGE")
        gone = probe()
        await gone.wait_for_connection()
        gone.cancel()
        servicer.release.release()
        last = probe()
        await last.write(MESSAGE)
        await last
        assert len(servicer.begun) == 1
