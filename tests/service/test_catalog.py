"""Catalogues over gRPC, with the real Triton and the real embedded Qdrant: upserts, lists, deletions, durability."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from shoppable.runtime import metrics
from shoppable.v1 import product_catalog_pb2 as pb
from support.catalogs import (
    CATALOG,
    MatcherClient,
    matcher_client,
    picture,
    reason_of,
    requests_of,
    resource_of,
    sample_upserts,
    settings_of,
    upsert_of,
    violations_of,
)
from support.matcher_process import MatcherProcess

CREATED, UPDATED = pb.UPSERT_OUTCOME_CREATED, pb.UPSERT_OUTCOME_UPDATED
UNCHANGED, FAILED = pb.UPSERT_OUTCOME_UNCHANGED, pb.UPSERT_OUTCOME_FAILED
LIMIT_S = 30


@pytest.fixture
async def client(tmp_path: Path, triton_endpoint: str) -> AsyncIterator[MatcherClient]:
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as made:
        yield made


async def ids_of(client: MatcherClient, *, size: int = 1000, **wanted: object) -> list[str]:
    """All ids that a list gives, page by page."""
    ids, token = [], ""
    while True:
        page = await client.catalogs.ListProducts(
            pb.ListProductsRequest(
                parent=CATALOG,
                page_size=size,
                page_token=token,
                filter=pb.ProductFilter(**wanted),  # type: ignore[arg-type]
            )
        )
        assert len(page.products) <= size
        ids += [product.name.rpartition("/")[2] for product in page.products]
        token = page.next_page_token
        if not token:
            return ids


async def code_of(call: object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    code = caught.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


async def test_the_sample_catalogue_from_import_to_deletion(client: MatcherClient, samples: Path) -> None:
    upserts = sample_upserts(samples)
    results, summary = await client.upsert(upserts)
    assert {result.outcome for result in results.values()} == {CREATED}
    assert (len(results), summary.created, summary.failed) == (33, 33, 0)
    catalog = (await client.catalogs.GetCatalog(pb.GetCatalogRequest(name=CATALOG))).catalog
    assert (catalog.product_count, catalog.image_count, catalog.embedding_size) == (33, 66, 1280)
    assert (catalog.embedder.name, list(catalog.attribute_keys)) == ("embedder", ["color", "material"])
    assert catalog.revision == summary.revision == max(result.revision for result in results.values())

    _, again = await client.upsert(upserts)
    assert (again.unchanged, again.revision) == (33, summary.revision)

    upserts[0].product.price.units += 1
    results, changed = await client.upsert(upserts)
    assert (changed.updated, changed.unchanged, changed.revision) == (1, 32, summary.revision + 1)
    name = f"{CATALOG}/products/mug-teal"
    product = (await client.catalogs.GetProduct(pb.GetProductRequest(name=name))).product
    assert product.price.units == upserts[0].product.price.units
    assert product.revision == changed.revision
    assert product.update_time.ToDatetime() > product.create_time.ToDatetime()
    assert [(image.image_id, image.HasField("image")) for image in product.images] == [("1", False), ("2", False)]
    sent = upserts[0].product
    for field in ("title", "description", "brand", "category", "uri", "availability", "attributes"):
        assert getattr(product, field) == getattr(sent, field)

    deleted = await client.catalogs.DeleteProduct(pb.DeleteProductRequest(name=name))
    assert deleted.revision == changed.revision + 1
    assert await code_of(client.catalogs.GetProduct(pb.GetProductRequest(name=name))) is grpc.StatusCode.NOT_FOUND
    assert await code_of(client.catalogs.DeleteProduct(pb.DeleteProductRequest(name=name))) is grpc.StatusCode.NOT_FOUND
    found = (await client.match(sent.images[0].image, max_products=100)).results[0].products
    assert name not in [match.product.name for match in found]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name=CATALOG))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "CATALOG_NOT_EMPTY"
    await client.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name=CATALOG, force=True))
    assert await code_of(client.catalogs.GetCatalog(pb.GetCatalogRequest(name=CATALOG))) is grpc.StatusCode.NOT_FOUND


async def test_a_change_of_price_asks_nothing_of_the_embedder(tmp_path: Path, triton_endpoint: str) -> None:
    upsert = upsert_of("a", images=2, brand="x")
    # Health checks infer too: none falls into this test.
    async with matcher_client(settings_of(tmp_path, triton_endpoint, health_interval_s=600)) as client:
        await client.upsert([upsert])
        before = inferences()
        upsert.product.price.currency_code, upsert.product.price.units = "EUR", 3
        results, _ = await client.upsert([upsert])
        assert results[1].outcome == UPDATED
        assert inferences() == before


async def test_only_pictures_that_changed_are_embedded_again(tmp_path: Path, triton_endpoint: str) -> None:
    upsert = upsert_of("a", images=3)
    async with matcher_client(settings_of(tmp_path, triton_endpoint, health_interval_s=600)) as client:
        await client.upsert([upsert])
        before = inferences()
        upsert.product.images[1].image.CopyFrom(picture(99))
        results, _ = await client.upsert([upsert])
        assert results[1].outcome == UPDATED
        assert inferences() == before + 1
        for number, seed in ((0, upsert.product.images[0].image), (1, picture(99))):
            best = (await client.match(seed)).results[0].products[0]
            assert best.evidence.image_id == str(number + 1)
            assert best.evidence.view_similarity > 0.999


async def test_page_tokens_survive_products_that_come_and_go(client: MatcherClient) -> None:
    stay = [f"p{row:02}5" for row in range(20)]
    await client.upsert([upsert_of(product_id, row=row, seed=1) for row, product_id in enumerate(stay)])
    seen: list[str] = []
    token, page = "", 0
    while True:
        answer = await client.catalogs.ListProducts(
            pb.ListProductsRequest(parent=CATALOG, page_size=3, page_token=token)
        )
        seen += [product.name.rpartition("/")[2] for product in answer.products]
        token = answer.next_page_token
        if not token:
            break
        # The very product that the token points behind goes, and others come before and behind it.
        last = seen[-1]
        await client.catalogs.DeleteProduct(pb.DeleteProductRequest(name=f"{CATALOG}/products/{last}"))
        new = [f"{last[:-1]}{digit}" for digit in "46"] + [f"a{page}"]
        await client.upsert([upsert_of(product_id, row=row, seed=1) for row, product_id in enumerate(new)])
        page += 1
    assert seen == sorted(set(seen))
    assert set(stay) <= set(seen)
    assert not [product_id for product_id in seen if product_id.startswith("a") or product_id.endswith("4")]


def inferences() -> float:
    """Pictures that this process has sent to Triton."""
    return sum(
        sample.value
        for family in metrics.INFERENCES.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


async def test_lists_are_ordered_filtered_and_paged(client: MatcherClient) -> None:
    upserts = [
        upsert_of(f"p{row:02}", row=row, seed=1, brand="ab"[row % 2], attributes={"size": str(row % 3)})
        for row in range(25)
    ]
    await client.upsert(reversed(upserts))
    every = [f"p{row:02}" for row in range(25)]
    assert await ids_of(client) == every
    assert await ids_of(client, size=7) == every
    assert await ids_of(client, size=1, brands=["b"]) == every[1::2]
    size = pb.AttributeFilter(key="size", values=["0", "2"])
    assert await ids_of(client, size=5, attributes=[size], brands=["a"]) == [
        f"p{row:02}" for row in range(25) if row % 2 == 0 and row % 3 != 1
    ]

    first = await client.catalogs.ListProducts(pb.ListProductsRequest(parent=CATALOG, page_size=3))
    for request, fields in (
        (pb.ListProductsRequest(parent=CATALOG, page_token=first.next_page_token[:-4]), ["page_token"]),
        (pb.ListProductsRequest(parent=CATALOG, page_token="nonsense"), ["page_token"]),
        (
            pb.ListProductsRequest(
                parent=CATALOG, page_token=first.next_page_token, filter=pb.ProductFilter(brands=["a"])
            ),
            ["page_token"],
        ),
        (pb.ListProductsRequest(parent=CATALOG, page_size=1001), ["page_size"]),
        (pb.ListProductsRequest(parent="catalogs/UP"), ["parent"]),
        (
            pb.ListProductsRequest(
                parent=CATALOG,
                page_size=1001,
                filter=pb.ProductFilter(attributes=[pb.AttributeFilter(key="x", values="y")]),
            ),
            ["page_size", "filter.attributes[0].key"],
        ),
    ):  # fmt: skip
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.catalogs.ListProducts(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations_of(caught.value) == fields


async def test_catalogues_are_made_once_and_listed_in_pages(client: MatcherClient) -> None:
    for catalog_id in ("b", "a-shop", "c"):
        request = pb.CreateCatalogRequest(catalog_id=catalog_id, catalog=pb.Catalog(display_name=f"Shop {catalog_id}"))
        made = (await client.catalogs.CreateCatalog(request)).catalog
        assert (made.name, made.display_name) == (f"catalogs/{catalog_id}", f"Shop {catalog_id}")
        assert (made.product_count, made.revision) == (0, 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id="b"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert resource_of(caught.value) == ("catalog", "catalogs/b")
    first = await client.catalogs.ListCatalogs(pb.ListCatalogsRequest(page_size=2))
    second = await client.catalogs.ListCatalogs(pb.ListCatalogsRequest(page_size=2, page_token=first.next_page_token))
    names = [[catalog.name for catalog in page.catalogs] for page in (first, second)]
    assert names == [["catalogs/a-shop", "catalogs/b"], ["catalogs/c"]]
    assert not second.next_page_token
    await client.catalogs.DeleteCatalog(pb.DeleteCatalogRequest(name="catalogs/b"))
    assert len((await client.catalogs.ListCatalogs(pb.ListCatalogsRequest())).catalogs) == 2
    request = pb.CreateCatalogRequest(catalog_id="1x", catalog=pb.Catalog(display_name="x" * 201), request_id="r" * 129)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.catalogs.CreateCatalog(request)
    assert violations_of(caught.value) == ["catalog_id", "catalog.display_name", "request_id"]


async def test_bad_products_are_answered_and_the_stream_goes_on(client: MatcherClient) -> None:
    bare = upsert_of("bare", row=2, images=0)
    broken = upsert_of("broken", row=3, images=2)
    broken.product.images[1].image.data = b"\xff\xd8\xff broken"
    huge = upsert_of("huge", row=4)
    huge.product.images[0].image.CopyFrom(picture(1, size=(40_000, 1)))
    results, summary = await client.upsert([upsert_of("a", row=1), bare, broken, huge, upsert_of("b", row=5)])
    assert [results[row].outcome for row in range(1, 6)] == [CREATED, FAILED, FAILED, FAILED, CREATED]
    assert (summary.created, summary.failed) == (2, 3)
    fields = {2: ["product.images"], 3: ["product.images[1].image"], 4: ["product.images[0].image"]}
    for row, expected in fields.items():
        assert results[row].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert violations_of(results[row].status) == expected
        assert results[row].product_id in {"bare", "broken", "huge"}
    assert await ids_of(client) == ["a", "b"]


@pytest.mark.parametrize(
    ("messages", "code", "fields"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT, ["config"]),
        ([pb.UpsertProductsRequest()], grpc.StatusCode.INVALID_ARGUMENT, ["config"]),
        (requests_of([upsert_of("a")])[1:], grpc.StatusCode.INVALID_ARGUMENT, ["config"]),
        (requests_of([], catalog="shop"), grpc.StatusCode.INVALID_ARGUMENT, ["config.catalog"]),
        (requests_of([]) * 2, grpc.StatusCode.INVALID_ARGUMENT, ["config"]),
        ([*requests_of([]), pb.UpsertProductsRequest()], grpc.StatusCode.INVALID_ARGUMENT, ["upsert"]),
        (requests_of([], create=False), grpc.StatusCode.NOT_FOUND, None),
    ],
)
async def test_streams_that_are_refused(
    client: MatcherClient,
    messages: list[pb.UpsertProductsRequest],
    code: grpc.StatusCode,
    fields: list[str] | None,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in client.catalogs.UpsertProducts(messages):
            pass
    assert caught.value.code() is code
    if fields:
        assert violations_of(caught.value) == fields
    else:
        assert resource_of(caught.value) == ("catalog", CATALOG)


async def test_an_empty_stream_has_a_summary(client: MatcherClient) -> None:
    results, summary = await client.upsert([])
    assert (results, summary.revision) == ({}, 1)


async def test_a_catalogue_of_another_embedder_is_refused(tmp_path: Path, triton_endpoint: str, samples: Path) -> None:
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        await client.upsert([upsert_of("a")])
    record = tmp_path / "catalogs" / "sample" / "catalog.json"
    text = record.read_text("utf-8")
    assert '"version": "1"' in text
    record.write_text(text.replace('"version": "1"', '"version": "0"'), "utf-8")
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        for call in (client.match(picture(1)), client.upsert([upsert_of("b")])):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert reason_of(caught.value) == "EMBEDDER_MISMATCH"
            assert "new catalogue" in (caught.value.details() or "")
        name = f"{CATALOG}/products/a"
        assert (await client.catalogs.GetProduct(pb.GetProductRequest(name=name))).product.title == "Product a"


async def test_a_restart_keeps_everything(tmp_path: Path, triton_endpoint: str) -> None:
    upserts = [upsert_of(f"p{row}", row=row, images=2, attributes={"k": "v"}) for row in range(5)]
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        _, before = await client.upsert(upserts)
        await client.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id="empty"))
        stored = (await client.catalogs.GetCatalog(pb.GetCatalogRequest(name=CATALOG))).catalog
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        assert (await client.catalogs.GetCatalog(pb.GetCatalogRequest(name=CATALOG))).catalog == stored
        _, after = await client.upsert(upserts)
        assert (after.unchanged, after.revision) == (5, before.revision)
        found = (await client.match(upserts[3].product.images[1].image)).results[0].products[0]
        assert (found.product.name, found.evidence.image_id) == (f"{CATALOG}/products/p3", "2")
        assert len((await client.catalogs.ListCatalogs(pb.ListCatalogsRequest())).catalogs) == 2


async def test_what_was_answered_survives_kill_9(tmp_path: Path, triton_endpoint: str) -> None:
    folder = tmp_path / "data"
    upserts = [upsert_of(f"p{row:03}", row=row, images=2) for row in range(200)]
    answered: dict[str, int] = {}
    server = await MatcherProcess.start(folder, triton_endpoint)
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            async for response in MatcherClient(channel).catalogs.UpsertProducts(requests_of(upserts)):
                answered[response.result.product_id] = response.result.revision
                if len(answered) == 20:
                    await server.kill()
    server = await MatcherProcess.start(folder, triton_endpoint)
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            client = MatcherClient(channel)
            catalog = (await client.catalogs.GetCatalog(pb.GetCatalogRequest(name=CATALOG))).catalog
            present = await ids_of(client)
            assert set(answered) <= set(present)
            assert catalog.revision >= max(answered.values())
            assert (catalog.product_count, catalog.image_count) == (len(present), 2 * len(present))
            results, summary = await client.upsert([one for one in upserts if one.product_id in answered])
            assert {result.outcome for result in results.values()} == {UNCHANGED}
            assert all(results[int(key[1:])].revision == revision for key, revision in answered.items())
            sure = upserts[int(next(iter(answered))[1:])]
            first = (await client.match(sure.product.images[1].image)).results[0].products[0]
            assert first.product.name == f"{CATALOG}/products/{sure.product_id}"
            assert summary.revision == catalog.revision
    finally:
        assert await server.stop() == 0


async def test_a_second_process_on_the_folder_is_told_who_owns_it(
    client: MatcherClient, tmp_path: Path, triton_endpoint: str
) -> None:
    with pytest.raises(AssertionError, match=rf"in use by process {os.getpid()}\b"):
        await MatcherProcess.start(tmp_path, triton_endpoint)


async def test_the_service_ends_with_one_line_for_a_setting_that_is_wrong(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shoppable.matcher", "--index", "paper", stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 2
    assert b"index" in stderr
    assert stderr.count(b"\n") == 1
