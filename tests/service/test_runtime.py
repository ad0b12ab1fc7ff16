"""The bootstrap of all servers, through a real server with a servicer that does as it is told."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shoppable.client import DecoderClient, ShoppableError, open_channel
from shoppable.runtime import health_probe
from shoppable.runtime.call import Call, current_request_id, remaining_s
from shoppable.runtime.call import serving as as_if_in
from shoppable.runtime.interceptors import outgoing
from shoppable.runtime.server import Server
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc, server_info_pb2, server_info_pb2_grpc
from support.scripted import scripted

NAME = "shoppable.v1.FrameDecoderService"
PROBE = f"/{NAME}/ProbeVideo"
# What Python raises when there is none.
NO_MEMORY = {
    "no memory": MemoryError(),
    "no memory for a file's map": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "no memory for a thread's stack": RuntimeError("can't start new thread"),
    "no memory for a copy of a message": DecodeError("Error parsing message"),
}


class Obedient(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Does what the URI says."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.waiting = 0
        self.cancelled = 0
        self.ready = True
        self.seen: list[tuple[str | None, float]] = []

    async def check(self) -> None:
        if not self.ready:
            raise RuntimeError("told so")

    async def ProbeVideo(self, request, context):
        order = request.source.uri
        self.seen.append((current_request_id(), remaining_s(99.0)))
        if order == "raise":
            raise ValueError("the secret is 1234")
        if order in NO_MEMORY:
            raise NO_MEMORY[order]
        if order == "wait":
            self.waiting += 1
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            self.seen.append((current_request_id(), remaining_s(99.0)))
        if order == "answer what cannot be encoded":
            return object()
        return frame_decoder_pb2.ProbeVideoResponse()

    async def DecodeFrames(self, request_iterator, context):
        async for _ in request_iterator:
            yield frame_decoder_pb2.DecodeFramesResponse()


class Served(NamedTuple):
    servicer: Obedient
    channel: grpc.aio.Channel
    server: Server
    address: str


@contextlib.asynccontextmanager
async def served(**settings):
    servicer = Obedient()

    async with (
        scripted("FrameDecoderService", servicer, ready=servicer.check, **({"health_interval_s": 0.05} | settings)) as (
            server,
            address,
        ),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Served(servicer, channel, server, address)


def order(uri: str) -> frame_decoder_pb2.ProbeVideoRequest:
    return frame_decoder_pb2.ProbeVideoRequest(source=common_pb2.VideoSource(uri=uri))


async def until(condition, limit_s=10.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_unexpected_error_is_internal_and_keeps_its_text_to_itself():
    async with served() as (_, channel, _, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel).ProbeVideo(order("raise"))
        error = ShoppableError.from_rpc(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "1234" not in repr(caught.value)
        assert error.metadata["request_id"] in error.message


@pytest.mark.parametrize("no_memory", NO_MEMORY)
async def test_a_server_without_memory_says_to_come_again(no_memory):
    async with served() as (_, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ProbeVideo(order(no_memory))
        error = ShoppableError.from_rpc(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY")
        assert error.retry_after_s
        await stub.ProbeVideo(order("fine"))


async def test_an_answer_that_cannot_be_encoded_is_an_internal_error_with_its_request_id():
    async with served() as (_, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ProbeVideo(order("answer what cannot be encoded"))
        error = ShoppableError.from_rpc(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert error.metadata["request_id"] in error.message


@pytest.mark.parametrize("bytes_sent", [b"\xff\xff\xff", b"\x0a\x7f", b"\x08"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(bytes_sent):
    async with served() as (_, channel, _, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(PROBE)(bytes_sent)
        assert ShoppableError.from_rpc(caught.value).reason == "MALFORMED_MESSAGE"
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = channel.stream_stream(f"/{NAME}/DecodeFrames")(iter([bytes_sent]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel).ProbeVideo(order("fine"))


async def test_a_message_over_the_limit_is_refused_also_when_it_comes_packed():
    async with served(max_message_bytes=2**20) as (_, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        large = frame_decoder_pb2.ProbeVideoRequest(source=common_pb2.VideoSource(inline_bytes=bytes(2**21)))
        for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ProbeVideo(large, compression=packing)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await stub.ProbeVideo(order("fine"))


async def test_a_call_above_the_limit_is_refused_at_once_with_a_retry_delay():
    async with served(max_concurrent_calls=2) as (servicer, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        calls = [asyncio.ensure_future(stub.ProbeVideo(order("wait"))) for _ in range(2)]
        await until(lambda: servicer.waiting == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ProbeVideo(order("fine"), timeout=5)
        error = ShoppableError.from_rpc(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert error.retry_after_s
        assert error.retry_after_s > 0
        servicer.release.set()
        await asyncio.gather(*calls)
        await stub.ProbeVideo(order("fine"))


async def test_health_begins_with_the_truth_and_follows_it():
    async with served() as (servicer, channel, _, _):
        health = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> int:
            return (await health.Check(health_pb2.HealthCheckRequest(service=service))).status

        serving_status, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert [await status(NAME), await status("")] == [serving_status] * 2
        watch = health.Watch(health_pb2.HealthCheckRequest(service=NAME))
        assert (await watch.read()).status == serving_status
        servicer.ready = False
        assert (await asyncio.wait_for(watch.read(), 5)).status == not_serving
        assert [await status(NAME), await status("")] == [not_serving] * 2
        servicer.ready = True
        assert (await asyncio.wait_for(watch.read(), 5)).status == serving_status
        watch.cancel()


async def test_probes_have_health_and_nothing_else_on_a_port_of_their_own():
    async with served(health_port=0) as (servicer, _, server, _):
        assert server.health_address
        async with grpc.aio.insecure_channel(server.health_address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            assert await asyncio.to_thread(health_probe.main, [server.health_address]) == 0
            servicer.ready = False
            async with asyncio.timeout(10):
                while (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING:
                    await asyncio.sleep(0.01)
            assert await asyncio.to_thread(health_probe.main, [server.health_address]) == 1
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel).ProbeVideo(order("fine"))
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        address = server.health_address
    assert await asyncio.to_thread(health_probe.main, [address]) == 1


async def test_a_draining_process_is_not_serving_and_still_alive():
    async with served(health_port=0, shutdown_grace_s=10) as (servicer, channel, server, _):
        call = asyncio.ensure_future(frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel).ProbeVideo(order("wait")))
        await until(lambda: servicer.waiting == 1)
        async with grpc.aio.insecure_channel(server.health_address) as probe:
            health = health_pb2_grpc.HealthStub(probe)

            async def status(name: str) -> int:
                return (await health.Check(health_pb2.HealthCheckRequest(service=name))).status

            assert [await status(name) for name in ("liveness", "")] == [health_pb2.HealthCheckResponse.SERVING] * 2
            server.request_stop()
            async with asyncio.timeout(10):
                while await status("") == health_pb2.HealthCheckResponse.SERVING:
                    await asyncio.sleep(0.01)
            assert await status(NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await status("liveness") == health_pb2.HealthCheckResponse.SERVING
        servicer.release.set()
        await call


async def test_an_old_connection_is_replaced_and_its_call_finishes():
    async with served(max_connection_age_s=0.2) as (servicer, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        call = asyncio.ensure_future(stub.ProbeVideo(order("wait")))
        await until(lambda: servicer.waiting == 1)
        async with asyncio.timeout(10):
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                await asyncio.sleep(0.05)
        servicer.release.set()
        assert await asyncio.wait_for(call, 10) == frame_decoder_pb2.ProbeVideoResponse()
        await stub.ProbeVideo(order("fine"))


async def test_cancelling_a_call_cancels_its_work():
    async with served() as (servicer, channel, _, _):
        call = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel).ProbeVideo(order("wait"))
        await until(lambda: servicer.waiting == 1)
        call.cancel()
        await until(lambda: servicer.cancelled == 1)


async def test_request_id_and_deadline_reach_the_work():
    async with served() as (servicer, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        await stub.ProbeVideo(order("a"), metadata=[("x-request-id", "abc-1")], timeout=30)
        await stub.ProbeVideo(order("b"), metadata=[("x-request-id", "no good id")])
        (first, limit), (second, unlimited) = servicer.seen
        assert first == "abc-1"
        assert 20 < limit < 31  # gRPC rounds the time left up on its way
        assert second
        assert " " not in second
        assert unlimited == 99.0


@pytest.mark.parametrize("seconds", [86_400, -3600], ids=["a day forward", "an hour back"])
async def test_a_clock_that_is_set_changes_no_deadline_of_a_call_in_work(monkeypatch, seconds):
    async with served() as (servicer, channel, _, _):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        call = asyncio.ensure_future(stub.ProbeVideo(order("wait"), timeout=30))
        await until(lambda: servicer.waiting == 1)
        right = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: right() + seconds)
            servicer.release.set()
            await call
        _, left = servicer.seen[-1]
        assert 0 < left < 31  # gRPC rounds the time left up on its way


async def test_an_outgoing_call_carries_the_request_id_of_the_call_it_serves():
    async with served() as (servicer, _, _, address):
        async with open_channel(address, interceptors=outgoing()) as own:
            with as_if_in(Call("s", "m", "hop-7", None)):  # type: ignore[arg-type]
                await own.unary_unary(
                    PROBE, frame_decoder_pb2.ProbeVideoRequest.SerializeToString,
                    frame_decoder_pb2.ProbeVideoResponse.FromString,
                )(order("x"))  # fmt: skip
        assert servicer.seen[-1][0] == "hop-7"


async def test_a_stop_turns_not_serving_and_lets_running_calls_finish():
    async with served(shutdown_grace_s=10, shutdown_delay_s=0.2) as (servicer, channel, server, _):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=NAME))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = asyncio.ensure_future(frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel).ProbeVideo(order("wait")))
        await until(lambda: servicer.waiting == 1)
        server.request_stop()
        assert (await asyncio.wait_for(watch.read(), 5)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        servicer.release.set()
        assert await asyncio.wait_for(call, 5) == frame_decoder_pb2.ProbeVideoResponse()


async def test_a_stranger_finds_services_limits_and_channelz():
    async with served() as (_, channel, _, _):
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        names = {service.name for service in (await stream.read()).list_services_response.service}
        assert {NAME, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= names
        info = await server_info_pb2_grpc.ServerInfoServiceStub(channel).GetServerInfo(
            server_info_pb2.GetServerInfoRequest()
        )
        assert "max_message_bytes" in {limit.name for limit in info.limits}
        servers = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest())
        assert servers.server


async def test_two_servers_never_share_a_port():
    async with served() as (_, _, _, address):
        with pytest.raises(RuntimeError):
            async with served(port=int(address.rsplit(":", 1)[1])):
                pass


def test_a_second_process_on_a_port_ends_with_one_line_that_names_it(tmp_path: Path, samples: Path):
    with decoder_process(tmp_path, samples) as (address, _, _):
        port = address.rsplit(":", 1)[1]
        done = subprocess.run(
            [sys.executable, "-m", "shoppable.decoder", "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["event"] == "cannot serve"
    assert port in last["error"]
    assert "Traceback" not in done.stderr


async def test_a_client_gets_its_error_with_fields():
    async with served() as (_, channel, _, _):
        with pytest.raises(ShoppableError) as caught:
            await DecoderClient(channel).probe(common_pb2.VideoSource(uri="raise"))
        assert caught.value.reason == "INTERNAL"


@contextlib.contextmanager
def decoder_process(folder: Path, samples: Path):
    """A decoder in a process of its own: yields its address and a function that ends it and returns its log."""
    address = folder / "address"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "shoppable.decoder", "--port", "0", "--address-file", str(address),
            "--file-roots", str(samples), "--metrics-port", "0",
        ],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def end() -> list[dict]:
        os.kill(process.pid, signal.SIGTERM)
        return [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]

    try:
        asyncio.run(until(address.exists, 30))
        yield address.read_text(), process, end
    finally:
        process.kill()


def test_a_caller_that_leaves_in_the_middle_of_an_answer_is_one_line_of_log(tmp_path: Path, samples: Path):
    async def leave(address: str) -> None:
        config = frame_decoder_pb2.DecodeFramesConfig(sampling=common_pb2.FrameSampling(every_nth_frame=1))
        async with open_channel(address) as channel:
            frames = DecoderClient(channel).decode((samples / "film.mp4").as_uri(), config)
            await anext(frames)
            await frames.aclose()

    with decoder_process(tmp_path, samples) as (address, _, end):
        asyncio.run(leave(address))
        records = end()
    assert [record["code"] for record in records if record["event"] == "call ended"] == ["CANCELLED"]
    assert {record["level"] for record in records} == {"info"}


def test_metrics_count_calls_by_their_code(tmp_path: Path, samples: Path):
    async def call_twice(address: str) -> None:
        async with open_channel(address) as channel:
            client = DecoderClient(channel)
            await client.probe(common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri()))
            with pytest.raises(ShoppableError):
                await client.probe(common_pb2.VideoSource(uri=(samples / "no.mp4").as_uri()))

    with decoder_process(tmp_path, samples) as (address, process, _):
        listening = next(record for record in map(json.loads, process.stderr) if record["event"] == "listening")
        asyncio.run(call_twice(address))

        def counted() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{listening['metrics_port']}/metrics", timeout=10) as answer:
                return answer.read().decode()

        # A call is counted when it is over on the server, which may be after its caller has the answer.
        labels = f'method="ProbeVideo",service="{NAME}"'
        wanted = [f'shoppable_calls_total{{code="{code}",{labels}}} 1.0' for code in ("OK", "NOT_FOUND")]
        wanted.append(f"shoppable_calls_in_work{{{labels}}} 0.0")
        asyncio.run(until(lambda: all(line in counted() for line in wanted)))


def test_a_wrong_setting_ends_the_process_with_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "shoppable.orchestrator", "--port", "99999"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "port" in done.stderr


def test_sigterm_ends_a_process_cleanly(tmp_path: Path):
    address = tmp_path / "address"
    process = subprocess.Popen(
        [sys.executable, "-m", "shoppable.orchestrator", "--port", "0", "--address-file", str(address)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        asyncio.run(until(address.exists, 30))
        os.kill(process.pid, signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert '"event": "stopped"' in log
    assert "Traceback" not in log


async def test_a_call_whose_caller_gave_up_is_cancelled_on_the_server_through_all_interceptors():
    async with served() as (servicer, _, _, address), open_channel(address, interceptors=outgoing()) as channel:
        waiting = asyncio.ensure_future(DecoderClient(channel).probe(common_pb2.VideoSource(uri="wait")))
        await until(lambda: servicer.waiting == 1)
        waiting.cancel()
        await until(lambda: servicer.cancelled == 1)
