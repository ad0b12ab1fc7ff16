"""Imports into a scripted catalogue behind a real channel."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from shoppable.cli import importing
from shoppable.cli.feeds import FeedError
from shoppable.cli.importing import ImportReport, import_feed
from shoppable.client import CatalogClient, ShoppableError, open_channel
from shoppable.v1 import product_catalog_pb2 as pb
from shoppable.v1 import product_catalog_pb2_grpc

JPEG = b"\xff\xd8\xff\xe0"


class Catalogue(product_catalog_pb2_grpc.ProductCatalogServiceServicer):
    """Takes products; refuses those named "bad"; may break off after some."""

    def __init__(self, *, break_after: int | None = None, silent_about: str = "") -> None:
        self.taken: dict[str, pb.Product] = {}
        self.config = pb.UpsertProductsConfig()
        self.committed: int | None = None
        self._break_after = break_after
        self._silent_about = silent_about

    async def UpsertProducts(
        self, requests: AsyncIterator[pb.UpsertProductsRequest], context: Any
    ) -> AsyncIterator[pb.UpsertProductsResponse]:
        async for request in requests:
            if request.WhichOneof("request") == "config":
                self.config = request.config
                continue
            if request.WhichOneof("request") == "commit":
                self.committed = request.commit.count
                continue
            upsert = request.upsert
            if self._break_after is not None and len(self.taken) >= self._break_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the index is away")
            if upsert.product_id == self._silent_about:
                continue
            result = pb.UpsertResult(row=upsert.row, product_id=upsert.product_id)
            if upsert.product.title == "bad":
                result.outcome = pb.UPSERT_OUTCOME_FAILED
                result.status.code, result.status.message = 3, "the title is bad"
            else:
                same = self.taken.get(upsert.product_id) == upsert.product
                result.outcome = pb.UPSERT_OUTCOME_UNCHANGED if same else pb.UPSERT_OUTCOME_CREATED
                self.taken[upsert.product_id] = upsert.product
            yield pb.UpsertProductsResponse(result=result)
        yield pb.UpsertProductsResponse(summary=pb.UpsertSummary(revision=7))


@asynccontextmanager
async def client_of(catalogue: Catalogue) -> AsyncIterator[CatalogClient]:
    server = grpc.aio.server()
    product_catalog_pb2_grpc.add_ProductCatalogServiceServicer_to_server(catalogue, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield CatalogClient(channel)
    finally:
        await server.stop(None)


def feed_of(folder: Path, *rows: dict[str, object]) -> Path:
    (folder / "a.jpg").write_bytes(JPEG)
    feed = folder / "feed.jsonl"
    feed.write_text("".join(json.dumps({"title": "A", "images": ["a.jpg"]} | row) + "\n" for row in rows))
    return feed


async def test_every_row_is_sent_with_its_pictures_or_told_with_its_reason(tmp_path: Path) -> None:
    catalogue = Catalogue()
    feed = feed_of(
        tmp_path,
        {"product_id": "one"},
        {"product_id": "two", "title": "bad"},
        {"product_id": "three", "images": ["a.jpg", "none.jpg"]},
        {"product_id": "four", "price": "cheap"},
        {"product_id": "five"},
    )
    seen: list[int] = []
    async with client_of(catalogue) as client:
        report = await import_feed(client, feed, catalog="shop", on_row=lambda state: seen.append(state.done))
    assert catalogue.config.catalog == "catalogs/shop"
    assert catalogue.config.create_catalog_if_missing
    assert catalogue.committed == 3  # one of them was refused
    assert sorted(catalogue.taken) == ["five", "one"]
    image = catalogue.taken["one"].images[0]
    assert (image.image.data, image.uri) == (JPEG, (tmp_path / "a.jpg").resolve().as_uri())
    assert (report.created, report.revision, report.done) == (2, 7, 5)
    assert [(row.line, row.product_id) for row in report.broken] == [(2, "two"), (3, "three"), (4, "four")]
    reasons = [row.problems[0].reason for row in report.broken]
    assert "the title is bad" in reasons[0]
    assert reasons[1] == "none.jpg: no such file"
    assert seen == [1, 2, 3, 4, 5]


async def test_second_import_changes_nothing(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, *({"product_id": f"p{number}"} for number in range(30)))
    async with client_of(Catalogue()) as client:
        first = await import_feed(client, feed, catalog="shop")
        second = await import_feed(client, feed, catalog="shop")
    assert (first.created, first.unchanged) == (30, 0)
    assert (second.created, second.unchanged) == (0, 30)


async def test_stream_that_breaks_off_is_the_server_s_error_and_leaves_nothing_running(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, *({"product_id": f"p{number}"} for number in range(100)))
    last = ImportReport()

    def keep(report: ImportReport) -> None:
        nonlocal last
        last = report

    async with client_of(Catalogue(break_after=5)) as client:
        with pytest.raises(ShoppableError) as caught:
            await import_feed(client, feed, catalog="shop", on_row=keep)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert last.created == 5


async def test_row_without_an_answer_is_told(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, {"product_id": "one"}, {"product_id": "lost"})
    async with client_of(Catalogue(silent_about="lost")) as client:
        report = await import_feed(client, feed, catalog="shop")
    assert [(row.line, row.problems[0].reason) for row in report.broken] == [(2, "the server did not answer for it")]


async def test_feed_that_cannot_be_read_is_its_own_error_and_not_the_call_s(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("product_id,colour\n")
    async with client_of(Catalogue()) as client:
        with pytest.raises(FeedError, match="colour"):
            await import_feed(client, feed, catalog="shop")


async def test_pictures_too_large_for_one_message_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_PRODUCT_BYTES", 10)
    async with client_of(Catalogue()) as client:
        report = await import_feed(client, feed_of(tmp_path, {"product_id": "one"}), catalog="shop")
    assert [row.problems[0].field for row in report.broken] == ["images"]
