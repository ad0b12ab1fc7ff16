"""Too much of something at a server's door: others are still served, and nothing stays held."""

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults.annotating import Named, annotate
from faults.harness import FaultySuite, Finding
from shoppable.local.suite import SERVICES
from support.combinations import pairs

CONNECTIONS = 300
BOMB_BYTES = 64 * 2**20  # twice what a message may have
_BURN_S = 10
_BURN = f"""
import time
print("burning", flush=True)
until = time.monotonic() + {_BURN_S}
while time.monotonic() < until:
    pass
"""
# What a connection says before it is silent.
SAID = {
    "nothing": b"",
    "noise": secrets.token_bytes(4096),
    "the preface of HTTP/2 and no more": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.fixture(scope="module")
def undisturbed(faulty: FaultySuite, samples: Path) -> Named:
    ending = asyncio.run(annotate(faulty.endpoint("orchestrator"), samples / "film.mp4", timeout_s=60))
    assert ending.found
    return ending.found


@contextlib.asynccontextmanager
async def connections(address: str, first_bytes: bytes):
    """Many connections that say the same and then nothing."""
    host, port = address.rsplit(":", 1)
    writers = []
    try:
        for _ in range(CONNECTIONS):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(first_bytes)
            writers.append(writer)
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize(("said", "service"), pairs(SAID, SERVICES))
async def test_a_flood_of_connections_keeps_nobody_out(
    faulty: FaultySuite, samples: Path, undisturbed: Named, fault: Finding, service: str, said: str
):
    async with connections(faulty.endpoint(service), SAID[said]):
        ending = await annotate(faulty.endpoint("orchestrator"), samples / "film.mp4", timeout_s=60)
    assert ending.found == undisturbed, ending.error
    fault.fault = f"{CONNECTIONS} connections to the {service} that say {said}"
    fault.caller_sees = ending.seen


@pytest.mark.parametrize("service", SERVICES)
async def test_headers_beyond_the_limit_are_refused_and_the_connection_goes_on(
    faulty: FaultySuite, fault: Finding, service: str
):
    async with grpc.aio.insecure_channel(faulty.endpoint(service)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Check(request, metadata=[("x-flood", "x" * 100_000)], timeout=10)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await stub.Check(request, timeout=10)
    fault.fault, fault.caller_sees = f"headers of 100,000 bytes to the {service}", "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("service", SERVICES)
async def test_messages_that_grow_when_they_are_unpacked_cost_no_memory(
    faulty: FaultySuite, fault: Finding, service: str
):
    pid, bomb = faulty.pid(service), bytes(BOMB_BYTES)
    async with grpc.aio.insecure_channel(
        faulty.endpoint(service), options=[("grpc.max_send_message_length", 2 * BOMB_BYTES)]
    ) as channel:
        method = channel.unary_unary("/shoppable.v1.ServerInfoService/GetServerInfo")
        before = resident(pid)
        for packing in (grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression):
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await method(bomb, compression=packing, timeout=30)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert resident(pid) < before + BOMB_BYTES
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert faulty.pid(service) == pid
    fault.fault = f"messages of {BOMB_BYTES // 2**20} MB to the {service}, packed into {BOMB_BYTES // 2**20} KB or not"
    fault.caller_sees = "RESOURCE_EXHAUSTED"


def resident(pid: int) -> int:
    """Return what a process holds in memory at most so far, bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_cores_that_others_take_cost_time_and_nothing_else(
    faulty: FaultySuite, samples: Path, undisturbed: Named, fault: Finding
):
    hogs = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _BURN, stdout=subprocess.PIPE)
        for _ in range(os.cpu_count() or 2)
    ]
    await asyncio.gather(*(hog.stdout.readline() for hog in hogs))
    try:
        ending = await annotate(faulty.address, samples / "film.mp4", timeout_s=100)
    finally:
        for hog in hogs:
            with contextlib.suppress(ProcessLookupError):  # it has burnt long enough
                hog.kill()
            await hog.wait()
    assert ending.found == undisturbed, ending.error
    fault.fault, fault.caller_sees = f"every core taken by others for {_BURN_S} s", ending.seen
