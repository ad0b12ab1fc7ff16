"""A process may have no more memory while it works: calls end with a status that says so, and then all is well."""

import asyncio
import contextlib
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from faults.annotating import Ending, annotate, annotate_until_well
from faults.harness import HOPS, FaultySuite, Finding
from shoppable.client import CatalogClient, ShoppableError, open_channel
from shoppable.v1 import product_catalog_pb2
from support.catalogs import upsert_of
from support.combinations import pairs

CATALOG = "catalogs/starved"
DEADLINE_S = 8
FILMS, PRODUCTS = 6, 30
MB = 2**20
ROOM_MB = (0, 24, 96)  # that are left when the limit is set
_ENDINGS = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@contextlib.contextmanager
def limited(pid: int, room: int) -> Iterator[None]:
    """Let a process and those that it has started grow by so many bytes and no more."""
    family = [pid, *descendants(pid)]
    for one in family:
        pages = int(Path(f"/proc/{one}/statm").read_text().split()[0])
        _, most = resource.prlimit(one, resource.RLIMIT_AS)
        resource.prlimit(one, resource.RLIMIT_AS, (pages * resource.getpagesize() + room, most))
    try:
        yield
    finally:
        for one in family:
            with contextlib.suppress(ProcessLookupError):  # it did not outlive this
                _, most = resource.prlimit(one, resource.RLIMIT_AS)
                resource.prlimit(one, resource.RLIMIT_AS, (most, most))


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


async def write(address: str, acknowledged: set[str]) -> str:
    """Write products until the stream ends; note those that were acknowledged; return how it ended."""

    async def upserts() -> AsyncIterator[product_catalog_pb2.ProductUpsert]:
        for number in range(PRODUCTS):
            yield upsert_of(f"starved-{number}", row=number, images=2)

    config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
    async with open_channel(address) as channel:
        try:
            async for response in CatalogClient(channel).upsert_products(config, upserts(), timeout_s=DEADLINE_S):
                if response.WhichOneof("response") == "result":
                    if response.result.outcome == product_catalog_pb2.UPSERT_OUTCOME_FAILED:
                        assert response.result.error.code in {code.value[0] for code in _ENDINGS}, response.result.error
                    else:
                        acknowledged.add(response.result.product_id)
        except ShoppableError as error:
            assert error.code in _ENDINGS, error
            return error.code.name
    return "OK"


async def stored_and_deleted(address: str) -> set[str]:
    """Return the ids of the products that were stored, and delete them."""
    async with open_channel(address) as channel:
        catalogs = CatalogClient(channel)
        try:
            products = [product.name async for product in catalogs.list_products(CATALOG)]
            await catalogs.delete_catalog(CATALOG, force=True)
        except ShoppableError as error:
            assert error.code is grpc.StatusCode.NOT_FOUND, error
            return set()
    return {name.rpartition("/")[2] for name in products}


def what_was_seen(ending: Ending) -> str:
    if ending.summary and (ending.summary.frames_failed or ending.summary.objects_unmatched):
        return "a list that says what it lacks"
    return ending.seen


@pytest.mark.parametrize(("victim", "room_mb"), pairs(HOPS, ROOM_MB))
async def test_a_process_at_its_limit_of_memory_ends_calls_in_order_and_heals(
    faulty: FaultySuite, samples: Path, fault: Finding, victim: str, room_mb: int
):
    film, acknowledged = samples / "film.mp4", set[str]()
    before = (await annotate(faulty.address, film, timeout_s=60)).found
    with limited(faulty.pid(victim), room_mb * MB):
        *endings, wrote = await asyncio.gather(
            *(annotate(faulty.address, film, timeout_s=DEADLINE_S, seconds=4) for _ in range(FILMS)),
            write(faulty.endpoint("matcher"), acknowledged),
        )
    for ending in endings:
        assert ending.took_s < DEADLINE_S + 5
        assert ending.error is None or ending.error.code in _ENDINGS, ending.error
    again = await annotate_until_well(faulty.address, film)
    assert again.found == before
    assert acknowledged <= await stored_and_deleted(faulty.endpoint("matcher"))
    seen = Counter(map(what_was_seen, endings)).most_common()
    fault.fault = f"{victim} with {room_mb} MB of memory left under {FILMS} films and an import"
    fault.caller_sees = f"{', '.join(f'{count} {what}' for what, count in seen)}; the import {wrote}"
    fault.recovery_s = again.took_s
