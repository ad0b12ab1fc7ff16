"""A process of the suite may have no more memory: it is told, or it ends and comes back, and nothing is lost."""

import asyncio
import contextlib
import resource
from pathlib import Path

import grpc
import pytest

from faults.annotating import annotate, annotate_until_well
from faults.harness import FaultySuite, Finding
from shoppable.client import CatalogClient, ShoppableError, open_channel
from shoppable.client.errors import translated
from shoppable.local.suite import SERVICES

MORE = 8 * 2**20  # bytes that a process may still take
_LARGE = b"\x9a\x06\xff\xff\xff\x0e" + bytes(0x1DFFFFF)  # a field that no message has, of 30 MB


def address_space(pid: int) -> int:
    """Return what a process has mapped, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


async def products_of(address: str) -> set[str]:
    async with open_channel(address) as channel:
        return {product.name async for product in CatalogClient(channel).list_products("catalogs/sample")}


async def large_requests(address: str, number: int = 4) -> set[str]:
    """Send requests that are nearly as large as may be, all at once; return how they end."""

    async def ask(method: grpc.aio.UnaryUnaryMultiCallable) -> str:
        try:
            with translated():
                await method(_LARGE, timeout=20)
        except ShoppableError as error:
            return error.code.name
        return "OK"

    async with open_channel(address) as channel:
        method = channel.unary_unary("/shoppable.v1.ServerInfoService/GetServerInfo")
        return set(await asyncio.gather(*(ask(method) for _ in range(number))))


@pytest.mark.parametrize("victim", SERVICES)
async def test_a_process_that_may_have_no_more_memory_heals_and_loses_nothing(
    faulty: FaultySuite, samples: Path, fault: Finding, victim: str
):
    film = samples / "film.mp4"
    whole = await annotate_until_well(faulty.address, film)
    stored = await products_of(faulty.endpoint("matcher"))
    pid = faulty.pid(victim)
    ceiling = address_space(pid) + MORE
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (ceiling, hard))
    try:
        ending, large = await asyncio.gather(
            annotate(faulty.address, film, timeout_s=20), large_requests(faulty.endpoint(victim))
        )
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended, and another has taken its place
            resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
    assert ending.error is None or ending.refused_well or ending.error.code.name == "RESOURCE_EXHAUSTED", ending.error
    # None was answered as if nothing were. UNKNOWN is gRPC's own for a message that it could not hold, before any code
    # of ours; and to protobuf, one that it has no memory for is one that it cannot read.
    assert large <= {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNKNOWN", "INVALID_ARGUMENT"}, large
    again = await annotate_until_well(faulty.address, film)
    assert again.found == whole.found
    assert await products_of(faulty.endpoint("matcher")) == stored
    fault.fault, fault.caller_sees = (
        f"{victim} may take {MORE // 2**20} MB more memory, asked for far more",
        ", ".join(sorted({ending.seen, *large})),
    )
    fault.recovery_s = again.took_s
