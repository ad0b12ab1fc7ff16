"""A catalogue moves to another embedder while it is searched, at once or not at all; on a real Triton with both."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest

from shoppable.cli.importing import ImportReport, IncompleteFeedError, import_feed
from shoppable.client import CatalogClient
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import TritonRequirementError
from shoppable.matcher.server import build
from shoppable.runtime.server import serving
from shoppable.v1 import product_catalog_pb2 as pb
from support.catalogs import (
    CATALOG,
    MatcherClient,
    Upsert,
    matcher_client,
    reason_of,
    settings_of,
    upsert_of,
)
from support.onnx_file import write_embedder

OLD, NEW = "coarse", "fine"
UPSERTS = [upsert_of(f"p{row:02}", row=row, images=2) for row in range(40)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_embedder(folder, name=OLD, blocks=4)
    write_embedder(folder, name=NEW, blocks=10)
    return folder


@pytest.fixture
async def endpoint(repository: Path) -> AsyncIterator[str]:
    try:
        backends = Path(__file__).parents[2] / "deploy" / "triton" / "backends"
        server = await TritonServer.start(repository=repository, backends=backends)
    except TritonRequirementError as error:
        pytest.skip(str(error))
    try:
        yield server.grpc_endpoint
    finally:
        await server.stop()


async def replace(
    client: MatcherClient, upserts: Sequence[Upsert], *, before_end: object = None, commit: bool = True
) -> pb.UpsertSummary:
    """Send products as all that the catalogue shall have."""
    call = client.catalogs.UpsertProducts()
    config = pb.UpsertProductsConfig(catalog=CATALOG, replace_catalog=True)
    await call.write(pb.UpsertProductsRequest(config=config))
    for upsert in upserts:
        await call.write(pb.UpsertProductsRequest(upsert=upsert))
    for _ in upserts:
        assert (await call.read()).HasField("result")
    if before_end is not None:
        await before_end()  # type: ignore[operator]
    if commit:
        await call.write(pb.UpsertProductsRequest(commit=pb.StreamCommit(count=len(upserts))))
    await call.done_writing()
    response = await call.read()
    if response is grpc.aio.EOF:
        raise grpc.aio.AioRpcError(
            await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )
    summary: pb.UpsertSummary = response.summary
    return summary


async def catalog(client: MatcherClient) -> pb.Catalog:
    return (await client.catalogs.GetCatalog(pb.GetCatalogRequest(name=CATALOG))).catalog


async def test_a_catalogue_moves_to_another_embedder_while_it_is_searched(tmp_path: Path, endpoint: str) -> None:
    async with matcher_client(settings_of(tmp_path, endpoint, embedder_model=OLD)) as client:
        await client.upsert(UPSERTS)
        assert (await catalog(client)).embedder.name == OLD
    settings = settings_of(tmp_path, endpoint, embedder_model=NEW, other_embedder_models=(OLD,))
    async with matcher_client(settings) as client:
        seen: list[str] = []
        over = asyncio.Event()

        async def search_for_ever() -> None:
            place = 0
            while not over.is_set():
                wanted = UPSERTS[place % len(UPSERTS)]
                response = await client.match(wanted.product.images[1].image)
                assert response.results[0].products[0].product.name == f"{CATALOG}/products/{wanted.product_id}"
                seen.append(response.embedder.name)
                place += 1

        searching = asyncio.create_task(search_for_ever())

        async def until(embedder: str, more: int) -> None:
            count = len(seen) + more
            async with asyncio.timeout(60):
                while len(seen) < count or seen[-1] != embedder:
                    await asyncio.sleep(0.01)
                    assert not searching.done()

        try:
            await until(OLD, 3)
            before = await catalog(client)
            summary = await replace(client, UPSERTS, before_end=lambda: until(OLD, 3))
            assert (summary.created, summary.failed) == (len(UPSERTS), 0)
            assert summary.revision > before.revision
            await until(NEW, 3)
        finally:
            over.set()
            await searching
        assert seen == sorted(seen), "first all by the old one, then all by the new one"
        after = await catalog(client)
        assert (after.embedder.name, after.embedding_size, after.product_count) == (NEW, 300, len(UPSERTS))
        _, again = await client.upsert(UPSERTS)
        assert again.unchanged == len(UPSERTS)
    async with matcher_client(settings_of(tmp_path, endpoint, embedder_model=NEW)) as client:
        assert await catalog(client) == after


async def test_what_breaks_off_or_is_refused_or_overtaken_leaves_the_catalogue_as_it_is(
    tmp_path: Path, endpoint: str
) -> None:
    async with matcher_client(settings_of(tmp_path, endpoint, embedder_model=OLD)) as client:
        missing = client.catalogs.UpsertProducts()
        await missing.write(
            pb.UpsertProductsRequest(config=pb.UpsertProductsConfig(catalog=CATALOG, replace_catalog=True))
        )
        # Nothing more is written: gRPC loses the status of a call that ends while it writes.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await missing.read()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        await client.upsert(UPSERTS)
    settings = settings_of(tmp_path, endpoint, embedder_model=NEW, other_embedder_models=(OLD,))
    async with matcher_client(settings) as client:
        before = await catalog(client)
        bare = upsert_of("bare", row=99, images=0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await replace(client, [*UPSERTS[:3], bare])
        assert reason_of(refused.value) == "PRODUCTS_REFUSED"
        assert await catalog(client) == before

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await replace(client, UPSERTS[:3], commit=False)
        assert reason_of(refused.value) == "NOT_COMMITTED"
        assert await catalog(client) == before

        call = client.catalogs.UpsertProducts()
        config = pb.UpsertProductsConfig(catalog=CATALOG, replace_catalog=True)
        await call.write(pb.UpsertProductsRequest(config=config))
        await call.write(pb.UpsertProductsRequest(upsert=UPSERTS[0]))
        assert (await call.read()).result.outcome == pb.UPSERT_OUTCOME_CREATED
        call.cancel()
        assert await catalog(client) == before

        async def overtake() -> None:
            await client.catalogs.DeleteProduct(pb.DeleteProductRequest(name=f"{CATALOG}/products/p07"))

        with pytest.raises(grpc.aio.AioRpcError) as overtaken:
            await replace(client, UPSERTS, before_end=overtake)
        assert reason_of(overtaken.value) == "CATALOG_CHANGED"
        assert (await catalog(client)).embedder.name == OLD
        assert (await catalog(client)).product_count == len(UPSERTS) - 1
        found = (await client.match(UPSERTS[3].product.images[0].image)).results[0].products[0]
        assert found.product.name == f"{CATALOG}/products/p03"
        for shard in (tmp_path / "catalogs" / "sample").glob("shard.*"):
            pytest.fail(f"{shard} is left over")


async def test_without_the_old_model_its_catalogues_cannot_be_searched(tmp_path: Path, endpoint: str) -> None:
    async with matcher_client(settings_of(tmp_path, endpoint, embedder_model=OLD)) as client:
        await client.upsert(UPSERTS[:1])
    async with matcher_client(settings_of(tmp_path, endpoint, embedder_model=NEW)) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.match(UPSERTS[0].product.images[0].image)
        assert reason_of(caught.value) == "EMBEDDER_MISMATCH"


async def test_a_feed_that_cannot_be_sent_whole_replaces_nothing(tmp_path: Path, endpoint: str) -> None:
    (tmp_path / "there.png").write_bytes(UPSERTS[0].product.images[0].image.data)
    rows = [{"product_id": name, "title": name, "images": [f"{name}.png"]} for name in ("there", "missing")]
    feed = tmp_path / "feed.jsonl"
    feed.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    async with (
        serving(settings_of(tmp_path / "data", endpoint, embedder_model=NEW), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        client = CatalogClient(channel)
        assert (await import_feed(client, feed, catalog="sample")).created == 1
        before = await client.get_catalog(CATALOG)
        seen: list[ImportReport] = []
        with pytest.raises(IncompleteFeedError):
            await import_feed(client, feed, catalog="sample", replace=True, on_row=seen.append)
        assert [row.product_id for row in seen[-1].broken] == ["missing"]
        assert await client.get_catalog(CATALOG) == before
        (tmp_path / "missing.png").write_bytes(UPSERTS[1].product.images[0].image.data)
        assert (await import_feed(client, feed, catalog="sample", replace=True)).created == 2
        assert (await client.get_catalog(CATALOG)).product_count == 2
