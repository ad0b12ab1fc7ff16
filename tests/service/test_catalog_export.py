"""A catalogue comes back as the feed that it was made of."""

import json
import shutil
from pathlib import Path

import grpc

from shoppable.cli.catalog_export import write_feed
from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient
from shoppable.matcher.server import build
from shoppable.runtime.server import serving
from support.catalogs import settings_of


async def test_import_export_import_gives_equal_products_and_the_same_feed(
    tmp_path: Path, triton_endpoint: str, samples: Path
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(samples / "catalog", shop / "catalog")
    rows = [json.loads(line) for line in (samples / "catalog.jsonl").read_text().splitlines()[:6]]
    for number, row in enumerate(rows):
        row["price"] = f"{number}.{'0' * number}5 EUR" if number else "7.00 JPY"
        row["availability"] = ("in_stock", "preorder")[number % 2]
    feed = shop / "feed.jsonl"
    feed.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    async with (
        serving(settings_of(tmp_path / "data", triton_endpoint), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = CatalogClient(channel)

        async def export(catalog: str, to: Path) -> None:
            with to.open("w", encoding="utf-8") as file:
                done = await write_feed(client.list_products(f"catalogs/{catalog}", page_size=4), file, to.parent)
            assert (done.products, done.without_picture) == (6, [])

        assert (await import_feed(client, feed, catalog="one")).created == 6
        await export("one", shop / "out.jsonl")
        assert (await import_feed(client, shop / "out.jsonl", catalog="one")).unchanged == 6
        assert (await import_feed(client, shop / "out.jsonl", catalog="two")).created == 6
        await export("two", shop / "again.jsonl")
    assert (shop / "again.jsonl").read_bytes() == (shop / "out.jsonl").read_bytes()
    written = [json.loads(line) for line in (shop / "out.jsonl").read_text("utf-8").splitlines()]
    assert written == sorted(rows, key=lambda row: row["product_id"])
