"""Calibrating a catalogue over gRPC, with the real Triton, the real embedded Qdrant and crops of the film."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import av
import grpc
import pytest

from shoppable.client import ShoppableError
from shoppable.client.streams import call_stream
from shoppable.runtime.images import write_jpeg
from shoppable.v1 import common_pb2, product_catalog_pb2
from support.catalogs import CATALOG, MatcherClient, matcher_client, sample_upserts, settings_of

Request = product_catalog_pb2.CalibrateCatalogRequest
Thing = product_catalog_pb2.LabelledThing
CROPS = 2  # of each product


def film_things(samples: Path) -> list[Thing]:
    """Return crops of each of the film's products, from its first and its last frames."""
    truth = json.loads((samples / "ground_truth.json").read_text("utf-8"))
    seen: dict[str, list[common_pb2.Image]] = defaultdict(list)
    with av.open(str(samples / truth["film"])) as container:
        for frame, facts in zip(container.decode(video=0), truth["frames"], strict=True):
            for product in facts["products"]:
                if product["visibility"] >= 0.5 and len(seen[product["product_id"]]) < CROPS:
                    left, top, right, bottom = (int(edge) for edge in product["box"])
                    pixels = frame.to_ndarray(format="rgb24")[top : bottom + 1, left : right + 1]
                    seen[product["product_id"]].append(write_jpeg(pixels, quality=95))
    pairs = [(product_id, view) for product_id, views in seen.items() for view in views]
    return [Thing(row=row, product_id=product_id, views=[view]) for row, (product_id, view) in enumerate(pairs, 1)]


def stream_of(things: Sequence[Thing], **config: Any) -> list[Request]:
    first = Request(config=product_catalog_pb2.CalibrationConfig(catalog=CATALOG, **config))
    last = Request(commit=product_catalog_pb2.StreamCommit(count=len(things)))
    return [first, *(Request(thing=thing) for thing in things), last]


async def calibrate(
    client: MatcherClient, requests: Sequence[Request]
) -> list[product_catalog_pb2.CalibrateCatalogResponse]:
    async def stream() -> AsyncIterator[Request]:
        for request in requests:
            yield request

    return [answer async for answer in call_stream(client.catalogs.CalibrateCatalog, stream(), timeout_s=None)]


async def catalog_of(client: MatcherClient) -> product_catalog_pb2.Catalog:
    return (await client.catalogs.GetCatalog(product_catalog_pb2.GetCatalogRequest(name=CATALOG))).catalog


async def test_labelled_crops_calibrate_a_catalogue_until_it_is_reset(
    tmp_path: Path, triton_endpoint: str, samples: Path
) -> None:
    things = film_things(samples)
    sold = {thing.product_id for thing in things}
    assert len(sold) == 11
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        await client.upsert(upsert for upsert in sample_upserts(samples) if upsert.product_id in sold)
        before = await catalog_of(client)
        assert not before.calibrated

        *rows, last = await calibrate(client, stream_of(things))
        assert [answer.row for answer in rows] == [thing.row for thing in things]
        summary = last.summary
        assert (summary.things, summary.things_not_for_sale) == (len(things), 0)
        assert summary.revision == before.revision + 1
        assert summary.after.recall_at_1 >= summary.before.recall_at_1
        assert (await catalog_of(client)).calibrated

        # Learned things are found by it, and it outlives the process.
        found = await client.match(*(thing.views[0] for thing in things), min_revision=summary.revision)
        first = [result.products[0].product.name.rpartition("/")[2] for result in found.results]
        right = [name == thing.product_id for name, thing in zip(first, things, strict=True)]
        assert sum(right) / len(right) == pytest.approx(summary.after.recall_at_1)
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        assert (await catalog_of(client)).calibrated

        (forgotten,) = await calibrate(client, stream_of([], reset=True))
        after = await catalog_of(client)
        assert after.revision == forgotten.summary.revision == summary.revision + 1
        assert not after.calibrated


async def test_a_calibration_that_cannot_be_right_names_what_is_wrong(
    tmp_path: Path, triton_endpoint: str, samples: Path
) -> None:
    picture = sample_upserts(samples)[0].product.images[0].image
    broken = common_pb2.Image(data=b"no picture")
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        await client.upsert(sample_upserts(samples)[:1])
        revision = (await catalog_of(client)).revision
        for requests, field in (
            ([], "config"),
            (stream_of([Thing(row=1)])[1:], "config"),
            (stream_of([]), "thing"),
            ([*stream_of([])[:1], *stream_of([])], "config"),
            ([*stream_of([]), *stream_of([])], "commit"),
            ([*stream_of([Thing(row=1, views=[picture])])[:2], *stream_of([])[1:]], "commit.count"),
            (stream_of([Thing(row=1)]), "thing[1].views"),
            (stream_of([Thing(row=2, views=[picture, broken])]), "thing[2].views[1]"),
            (stream_of([Thing(row=3, views=[picture], product_id="no-such")]), "thing[3].product_id"),
            (stream_of([Thing(row=4, views=[picture])], reset=True), "thing"),
            (stream_of([Thing(row=5, views=[picture])], not_for_sale_share=0.95), "config.not_for_sale_share"),
            (stream_of([Thing(row=6, views=[picture])], not_for_sale_share=0.2), "config.not_for_sale_share"),
        ):
            with pytest.raises(ShoppableError) as caught:
                await calibrate(client, requests)
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert [wrong.field.removesuffix(".data") for wrong in caught.value.violations] == [field]
        with pytest.raises(ShoppableError) as caught:
            await calibrate(client, stream_of([Thing(row=7, views=[picture], product_id="no-such")])[:-1])
        assert caught.value.reason == "NOT_COMMITTED"
        nowhere = Request(config=product_catalog_pb2.CalibrationConfig(catalog="catalogs/nowhere"))
        with pytest.raises(ShoppableError) as caught:
            await calibrate(client, [nowhere])
        assert caught.value.code is grpc.StatusCode.NOT_FOUND
        assert (await catalog_of(client)).revision == revision
