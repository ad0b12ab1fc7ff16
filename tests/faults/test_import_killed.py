"""An import whose matcher is killed at random moments, again and again, and which is run again each time.

What was acknowledged must be there after each kill, and in the end every product must be there once, with its pictures.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

import grpc

from faults.harness import Finding
from shoppable.cli.importing import ImportReport, import_feed
from shoppable.client import CatalogClient, ShoppableError, open_channel
from shoppable.v1 import product_catalog_pb2 as pb
from support.catalogs import picture
from support.matcher_process import MatcherProcess

# `IMPORT_KILLS=25` for more than the tests of a commit.
KILLS = int(os.environ.get("IMPORT_KILLS", "3"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
ROWS_PER_KILL = 60
CATALOG = "catalogs/shop"


class NotingClient(CatalogClient):
    """Notes the ids of the products that were acknowledged."""

    def __init__(self, channel: grpc.aio.Channel, acknowledged: set[str]) -> None:
        super().__init__(channel)
        self._acknowledged = acknowledged

    async def upsert_products(
        self,
        config: pb.UpsertProductsConfig,
        upserts: AsyncIterable[pb.ProductUpsert],
        *,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[pb.UpsertProductsResponse, None]:
        async for response in super().upsert_products(config, upserts, timeout_s=timeout_s):
            if response.WhichOneof("response") == "result":
                assert response.result.outcome != pb.UPSERT_OUTCOME_FAILED
                self._acknowledged.add(response.result.product_id)
            yield response


def feed_of(folder: Path, rows: int) -> Path:
    """Write a feed of products with one to three pictures each."""
    folder.mkdir()
    feed = folder / "feed.jsonl"
    with feed.open("w") as file:
        for number in range(rows):
            names = [f"{number}-{place}.png" for place in range(1 + number % 3)]
            for place, name in enumerate(names):
                (folder / name).write_bytes(picture(10 * number + place).data)
            row = {"product_id": f"p{number:05}", "title": f"Product {number}", "images": names}
            file.write(json.dumps(row | {"price": f"{number}.50 EUR", "attributes": {"k": str(number % 4)}}) + "\n")
    return feed


async def stored(address: str) -> tuple[set[str], int, int]:
    """Return the ids of a catalogue's products, and its numbers of images and of its revision."""
    async with open_channel(address) as channel:
        client = CatalogClient(channel)
        try:
            catalog = await client.get_catalog(CATALOG)
        except ShoppableError as error:
            assert error.code is grpc.StatusCode.NOT_FOUND
            return set(), 0, 0
        ids = [product.name.rpartition("/")[2] async for product in client.list_products(CATALOG, page_size=1000)]
    assert len(ids) == len(set(ids)) == catalog.product_count
    return set(ids), catalog.image_count, catalog.revision


async def test_an_import_that_is_killed_and_run_again_loses_and_doubles_nothing(
    tmp_path: Path, triton_endpoint: str, findings: list[Finding]
) -> None:
    rows = KILLS * ROWS_PER_KILL
    feed = feed_of(tmp_path / "feed", rows)
    chance = random.Random(SEED)
    acknowledged: set[str] = set()
    revision, broken_off = 0, 0
    for kill in range(KILLS + 1):
        server = await MatcherProcess.start(tmp_path / "data", triton_endpoint)
        last = kill == KILLS
        try:
            ids, _, now = await stored(server.address)
            assert acknowledged <= ids
            assert now >= revision
            revision, seen = now, ImportReport()

            def keep(report: ImportReport) -> None:
                nonlocal seen
                seen = report

            async with open_channel(server.address) as channel:
                work = asyncio.create_task(
                    import_feed(NotingClient(channel, acknowledged), feed, catalog="shop", on_row=keep)
                )
                if not last:
                    # Somewhere among the rows that are new this time, and somewhere within a write.
                    goal = len(ids) + chance.randint(1, ROWS_PER_KILL)
                    while seen.done < goal and not work.done():
                        await asyncio.sleep(0.002)
                    await asyncio.sleep(chance.uniform(0, 0.03))
                    await server.kill()
                try:
                    report = await work
                except ShoppableError as error:
                    assert error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, error
                    broken_off += 1
                    report = seen
            assert not report.broken
            if last:
                assert report.created + report.unchanged + report.updated == rows
                ids, images, _ = await stored(server.address)
                assert ids == {f"p{number:05}" for number in range(rows)}
                assert images == sum(1 + number % 3 for number in range(rows))
        finally:
            if server.process.returncode is None:
                await server.stop()
    assert broken_off >= KILLS // 2
    findings.append(
        Finding(
            f"an import whose matcher is killed {KILLS} times",
            f"run again each time: {rows} products, each there once with its pictures; nothing acknowledged was lost",
        )
    )
