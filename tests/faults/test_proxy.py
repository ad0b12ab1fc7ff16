"""The fault proxy does to a connection what each toxic says, and nothing else."""

import asyncio
import contextlib
import time

import pytest

from faults.proxy import FaultProxy
from faults.toxics import Bandwidth, BlackHole, Down, Latency, ResetAfter, Slicer, SlowClose


@contextlib.asynccontextmanager
async def echoing():
    """A proxy before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy("echo") as proxy:
        proxy.upstream = "{}:{}".format(*server.sockets[0].getsockname())
        yield proxy


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = proxy.address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def exchange(proxy: FaultProxy, data: bytes, *, timeout_s: float = 5) -> tuple[bytes, float]:
    """Send the bytes, and return what came back and after how many seconds it was all there."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await connect(proxy)
        started = time.monotonic()
        writer.write(data)
        answer = await reader.readexactly(len(data))
        took = time.monotonic() - started
        writer.close()
        return answer, took


async def test_without_toxics_all_bytes_pass_unchanged():
    data = bytes(range(256)) * 4096
    async with echoing() as proxy:
        assert (await exchange(proxy, data))[0] == data
        assert proxy.bytes_passed == 2 * len(data)


async def test_latency_delays_each_direction():
    async with echoing() as proxy:
        with proxy.spoiled(Latency(0.1, jitter_s=0.02)):
            answer, took = await exchange(proxy, b"hello")
    assert answer == b"hello"
    assert took >= 0.16


async def test_bandwidth_bounds_the_bytes_a_second():
    async with echoing() as proxy:
        with proxy.spoiled(down=[Bandwidth(100_000)]):
            answer, took = await exchange(proxy, bytes(30_000))
    assert len(answer) == 30_000
    assert took >= 0.28


async def test_slices_arrive_as_the_whole():
    data = bytes(range(256))
    async with echoing() as proxy:
        with proxy.spoiled(Slicer(7)):
            assert (await exchange(proxy, data))[0] == data


async def test_a_black_hole_lets_nothing_pass_and_keeps_the_connection():
    async with echoing() as proxy:
        with proxy.spoiled(BlackHole()), pytest.raises(TimeoutError):
            await exchange(proxy, b"hello", timeout_s=0.3)


async def test_a_reset_comes_after_so_many_bytes():
    async with echoing() as proxy:
        with proxy.spoiled(down=[ResetAfter(10)]):
            reader, writer = await connect(proxy)
            writer.write(b"0123456789abc")
            with pytest.raises(ConnectionResetError):
                while await reader.read(100):
                    pass
            writer.close()


async def test_down_refuses_all_and_up_again_takes_connections():
    async with echoing() as proxy:
        with proxy.spoiled(Down()):
            reader, writer = await connect(proxy)
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            writer.close()
        assert (await exchange(proxy, b"hello"))[0] == b"hello"


async def test_a_slow_close_tells_the_end_late():
    async with echoing() as proxy:
        with proxy.spoiled(down=[SlowClose(0.2)]):
            reader, writer = await connect(proxy)
            writer.write(b"bye")
            assert await reader.readexactly(3) == b"bye"
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()


async def test_connections_of_before_are_reset_when_a_fault_begins():
    async with echoing() as proxy:
        reader, writer = await connect(proxy)
        writer.write(b"x")
        await reader.readexactly(1)
        assert proxy.connections == 1
        with proxy.spoiled(Latency(0.01)), pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
