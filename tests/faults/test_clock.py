"""The machine's clock is put a day forward or an hour back while the suite works, and right again."""

import asyncio
import time
from pathlib import Path

import pytest

from faults.annotating import Named, annotate
from faults.harness import FaultySuite, Finding
from shoppable.client import CatalogClient, open_channel
from shoppable.v1 import product_catalog_pb2
from support.catalogs import upsert_of

DAY_S, HOUR_S = 86_400, 3600
CATALOG = "catalogs/clock"


@pytest.fixture(scope="module")
def undisturbed(faulty: FaultySuite, samples: Path) -> Named:
    ending = asyncio.run(annotate(faulty.endpoint("orchestrator"), samples / "film.mp4", timeout_s=60))
    assert ending.found
    return ending.found


async def put(catalogs: CatalogClient, **fields: object) -> product_catalog_pb2.Product:
    async def upserts():
        yield upsert_of("lamp", **fields)

    config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
    async for response in catalogs.upsert_products(config, upserts()):
        if response.WhichOneof("response") == "result":
            assert response.result.outcome != product_catalog_pb2.UPSERT_OUTCOME_FAILED, response
    return await catalogs.get_product(f"{CATALOG}/products/lamp")


@pytest.mark.parametrize(("jump", "seconds"), [("a day forward", DAY_S), ("an hour back", -HOUR_S)])
async def test_a_clock_that_jumps_ends_no_call_and_turns_no_time_around(
    faulty: FaultySuite, samples: Path, undisturbed: Named, fault: Finding, jump: str, seconds: float
):
    async with open_channel(faulty.endpoint("matcher")) as channel:
        catalogs = CatalogClient(channel)
        before = await put(catalogs, brand="before")
        film = asyncio.create_task(annotate(faulty.address, samples / "film.mp4", timeout_s=60))
        await asyncio.sleep(0.3)  # into the film
        with faulty.clock.wrong_by(seconds):
            meanwhile = await put(catalogs, brand="meanwhile")
            in_work = await film
            within = await annotate(faulty.address, samples / "film.mp4", timeout_s=60)
        after = await put(catalogs, brand="after")
        afterwards = await annotate(faulty.address, samples / "film.mp4", timeout_s=60)
        await catalogs.delete_catalog(CATALOG, force=True)
    for ending in (in_work, within, afterwards):
        assert ending.found == undisturbed, ending.error
    if seconds > 0:  # or the services would not have seen the clock jump at all
        assert meanwhile.update_time.seconds > time.time() + DAY_S / 2
    assert before.revision < meanwhile.revision < after.revision
    times = [product.update_time.ToNanoseconds() for product in (before, meanwhile, after)]
    assert times == sorted(times)
    fault.fault, fault.caller_sees = f"the clock put {jump}, and right again", within.seen
