"""Searches over gRPC, in the sample catalogue, with the real Triton and the real embedded Qdrant."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from shoppable.v1 import common_pb2, product_catalog_pb2
from shoppable.v1 import product_matcher_pb2 as pb
from support.catalogs import (
    CATALOG,
    MatcherClient,
    matcher_client,
    resource_of,
    sample_upserts,
    settings_of,
    violations_of,
)


@pytest.fixture
async def client(tmp_path: Path, triton_endpoint: str, samples: Path) -> AsyncIterator[MatcherClient]:
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as made:
        await made.upsert(sample_upserts(samples))
        yield made


async def search(client: MatcherClient, **fields: object) -> list[str]:
    response = await client.matcher.SearchProducts(pb.SearchProductsRequest(catalog=CATALOG, **fields))  # type: ignore[arg-type]
    return [hit.product.name.rpartition("/")[2] for hit in response.products]


async def test_the_samples_products_are_found_by_words_pictures_and_each_other(
    client: MatcherClient, samples: Path
) -> None:
    by_id = {upsert.product_id: upsert.product for upsert in sample_upserts(samples)}
    assert (await search(client, text="teal mug"))[0] == "mug-teal"
    mug = by_id["mug-teal"].images[0].image
    assert (await search(client, image=mug))[0] == "mug-teal"
    like = await search(client, product=f"{CATALOG}/products/mug-teal", max_products=3)
    assert "mug-teal" not in like
    assert {by_id[product_id].category for product_id in like} & {by_id["mug-teal"].category}
    bottle = next(key for key in by_id if by_id[key].category != by_id["mug-teal"].category)
    words = by_id[bottle].title
    assert (await search(client, text=words))[0] == bottle
    together = await search(client, text=words, image=mug, max_products=4)
    assert {"mug-teal", bottle} <= set(together)
    shelf = product_catalog_pb2.ProductFilter(categories=[by_id[bottle].category])
    assert "mug-teal" not in await search(client, text=words, image=mug, filter=shelf, max_products=30)


async def test_all_that_is_wrong_with_a_search_is_told_at_once(client: MatcherClient) -> None:
    wrong = [
        ({}, ["text"]),
        ({"text": "... !"}, ["text"]),
        ({"text": "x" * 501, "max_products": 0, "image": common_pb2.Image(data=b"GIF")}, None),
        ({"product": "catalogs/other/products/a"}, ["product"]),
        ({"product": "mug"}, ["product"]),
        ({"text": "mug", "diversity": pb.MatchDiversity(key="nonsense")}, ["diversity.key"]),
    ]
    for fields, expected in wrong:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await search(client, **fields)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations_of(caught.value) == (expected or ["text", "max_products", "image"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await search(client, product=f"{CATALOG}/products/missing")
    assert resource_of(caught.value) == ("product", f"{CATALOG}/products/missing")
