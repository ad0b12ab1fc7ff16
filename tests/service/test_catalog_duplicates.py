"""Copied pictures are found, whoever sells them, and other pictures are not."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from shoppable.v1 import product_catalog_pb2 as pb
from shoppable.v1 import product_matcher_pb2 as matcher_pb
from support.catalogs import (
    CATALOG,
    MatcherClient,
    Upsert,
    matcher_client,
    sample_upserts,
    settings_of,
    violations_of,
)


def copied(upsert: Upsert, product_id: str, seller: str, *, quality: int, scale: float) -> Upsert:
    """Another seller's offer, with the first picture saved again, smaller and worse."""
    copy = Upsert()
    copy.CopyFrom(upsert)
    copy.row, copy.product_id = 1000, product_id
    del copy.product.images[1:]
    copy.product.attributes["seller"] = seller
    picture = Image.open(io.BytesIO(upsert.product.images[0].image.data)).convert("RGB")
    buffer = io.BytesIO()
    picture.resize((int(picture.width * scale), int(picture.height * scale))).save(buffer, "JPEG", quality=quality)
    copy.product.images[0].image.data = buffer.getvalue()
    return copy


@pytest.fixture
async def client(tmp_path: Path, triton_endpoint: str) -> AsyncIterator[MatcherClient]:
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as made:
        yield made


async def pairs(client: MatcherClient, **options: object) -> dict[tuple[str, str], float]:
    request = pb.FindDuplicatesRequest(parent=CATALOG, **options)  # type: ignore[arg-type]
    found = {}
    async for pair in client.catalogs.FindDuplicates(request):
        ids = tuple(one.product.name.rpartition("/")[2] for one in (pair.first, pair.second))
        assert (*ids, pair.first.image_id, pair.second.image_id) not in found
        found[(*ids, pair.first.image_id, pair.second.image_id)] = pair.similarity
    return {(first, second): similarity for (first, second, *_), similarity in found.items()}


async def test_copied_pictures_are_found_and_no_others(client: MatcherClient, samples: Path) -> None:
    upserts = sample_upserts(samples)
    for upsert in upserts:
        upsert.product.attributes["seller"] = "maker"
    by_id = {upsert.product_id: upsert for upsert in upserts}
    copies = [
        copied(by_id["mug-teal"], "fake-mug", "nobody", quality=60, scale=0.7),
        copied(by_id["tv-dusk-50"], "fake-tv", "maker", quality=85, scale=1),
    ]
    await client.upsert([*upserts, *copies])
    found = await pairs(client)
    assert set(found) == {("fake-mug", "mug-teal"), ("fake-tv", "tv-dusk-50")}
    assert all(0.92 <= similarity <= 1 for similarity in found.values())
    assert set(await pairs(client, differing_in="seller")) == {("fake-mug", "mug-teal")}
    assert await pairs(client, differing_in="brand") == {}
    televisions = pb.ProductFilter(categories=[by_id["tv-dusk-50"].product.category])
    assert set(await pairs(client, filter=televisions)) == {("fake-tv", "tv-dusk-50")}


async def test_a_match_can_leave_out_copied_pictures_for_the_seller_one_prefers(
    client: MatcherClient, samples: Path
) -> None:
    upserts = sample_upserts(samples)
    for upsert in upserts:
        upsert.product.attributes["seller"] = "maker"
    mug = next(upsert for upsert in upserts if upsert.product_id == "mug-teal")
    await client.upsert([*upserts, copied(mug, "fake-mug", "nobody", quality=60, scale=0.7)])
    picture = mug.product.images[0].image
    everything = (await client.match(picture, max_products=5)).results[0].products
    assert {"mug-teal", "fake-mug"} <= {one.product.name.rpartition("/")[2] for one in everything}
    for preferred in ("maker", "nobody"):
        collapse = matcher_pb.MatchCollapse(key="seller", preferred=[preferred])
        first, *others = (await client.match(picture, max_products=5, collapse=collapse)).results[0].products
        stays, goes = ("mug-teal", "fake-mug") if preferred == "maker" else ("fake-mug", "mug-teal")
        assert first.product.name == f"{CATALOG}/products/{stays}"
        assert [one.product.name for one in first.collapsed] == [f"{CATALOG}/products/{goes}"]
        assert first.confidence > everything[0].confidence, "the copy no longer takes from it"
        assert not any(one.collapsed for one in others)


async def test_a_collapse_that_cannot_be_is_told_whole(client: MatcherClient, samples: Path) -> None:
    await client.upsert(sample_upserts(samples)[:1])
    collapse = matcher_pb.MatchCollapse(key="nonsense", preferred=["a", "a"], min_similarity=0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.match(sample_upserts(samples)[0].product.images[0].image, collapse=collapse)
    assert violations_of(caught.value) == ["collapse.preferred", "collapse.min_similarity", "collapse.key"]


async def test_what_is_wrong_with_the_request_is_told_at_once(client: MatcherClient) -> None:
    await client.upsert([])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pairs(
            client, min_similarity=0.2, differing_in="seller", filter=pb.ProductFilter(any_of=[pb.ProductFilter()])
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations_of(caught.value) == ["filter.any_of[0]", "min_similarity", "differing_in"]
