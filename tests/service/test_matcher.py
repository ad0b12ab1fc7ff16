"""The product matcher over gRPC, with the real Triton and the real embedded Qdrant."""

import asyncio
import json
import shutil
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import av
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from shoppable.matcher.server import build
from shoppable.runtime.images import raw_image, write_jpeg
from shoppable.runtime.server import serving
from shoppable.v1 import (
    common_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
    server_info_pb2_grpc,
)
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

MATCH = product_matcher_pb2.MATCH_DECISION_MATCH
NO_MATCH = product_matcher_pb2.MATCH_DECISION_NO_MATCH
FRAMES_OF_A_TRACK = 8


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, triton_endpoint: str, samples: Path) -> Path:
    """A folder with the sample catalogue in it, made once; matchers of these tests only read it."""
    folder = tmp_path_factory.mktemp("imported")

    async def fill() -> None:
        async with matcher_client(settings_of(folder, triton_endpoint)) as client:
            _, summary = await client.upsert(sample_upserts(samples))
            assert summary.created == 33

    asyncio.run(fill())
    return folder


@pytest.fixture
async def client(imported: Path, triton_endpoint: str) -> AsyncIterator[MatcherClient]:
    async with matcher_client(settings_of(imported, triton_endpoint)) as made:
        yield made


def reference(samples: Path, name: str) -> common_pb2.Image:
    return common_pb2.Image(data=(samples / "catalog" / f"{name}.jpg").read_bytes())


async def test_a_catalogues_own_picture_is_found_first_and_surely(client: MatcherClient, samples: Path) -> None:
    response = await client.match(reference(samples, "mug-teal-1"), reference(samples, "clock-white-walnut-2"))
    assert response.embedder.name == "embedder"
    assert response.catalog_revision > 1
    for result, product_id, image_id in zip(
        response.results, ("mug-teal", "clock-white-walnut"), ("1", "2"), strict=True
    ):
        first, second = result.products[0], result.products[1]
        assert len(result.products) == 5
        assert first.product.name == f"{CATALOG}/products/{product_id}"
        assert first.product.price.units > 0
        assert first.confidence > 0.8
        assert (first.decision, result.decision) == (MATCH, MATCH)
        assert first.similarity == pytest.approx(1, abs=1e-3)
        assert (first.evidence.image_id, first.evidence.image_uri) == (image_id, f"catalog/{product_id}-{image_id}.jpg")
        assert first.evidence.view_similarity == pytest.approx(1, abs=1e-3)
        assert (first.evidence.views, first.evidence.agreeing_views) == (1, 1)
        assert first.evidence.margin == pytest.approx(-second.evidence.margin)
        assert [p.confidence for p in result.products] == sorted((p.confidence for p in result.products), reverse=True)


async def test_products_of_the_film_are_right_or_unsure(client: MatcherClient, samples: Path) -> None:
    truth = json.loads((samples / "ground_truth.json").read_text("utf-8"))
    seen = defaultdict(list)
    with av.open(str(samples / truth["film"])) as container:
        for frame, facts in zip(container.decode(video=0), truth["frames"], strict=True):
            for product in facts["products"]:
                if product["visibility"] >= 0.5:
                    seen[product["product_id"]].append((frame, product["box"]))
    request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
    for views in seen.values():
        query = request.queries.add()
        for frame, (left, top, right, bottom) in views[:: len(views) // FRAMES_OF_A_TRACK][:FRAMES_OF_A_TRACK]:
            pixels = frame.to_ndarray(format="rgb24")[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
            query.views.add(image=write_jpeg(pixels, quality=95))
    response = await client.matcher.MatchProducts(request)
    table = {}
    for product_id, result in zip(seen, response.results, strict=True):
        found = [match.product.name.rpartition("/")[2] for match in result.products]
        first = result.products[0]
        rank = found.index(product_id) + 1 if product_id in found else None
        table[product_id] = (rank, found[0], round(first.confidence, 2), first.decision)
    wrong = {key: row for key, row in table.items() if row[0] != 1}
    assert len(table) == 11
    assert all(row[0] is not None and row[0] <= 2 for row in table.values()), table
    assert len(wrong) <= 2, table
    assert all(row[3] != MATCH for row in wrong.values()), table
    assert sum(row[0] == 1 and row[2] >= 0.5 for row in table.values()) >= 7, table
    assert sum(row[3] == MATCH for row in table.values()) >= 6, table  # at the default confidence of 0.75


async def test_filters_are_obeyed(client: MatcherClient, samples: Path) -> None:
    mug = reference(samples, "mug-teal-1")
    low, high = {"units": 0}, {"units": 16, "nanos": 400_000_000}
    price = product_catalog_pb2.PriceRange(currency_code="EUR", min=low, max=high)  # type: ignore[arg-type]
    teal = product_catalog_pb2.AttributeFilter(key="color", values=["navy", "white"])
    for wanted, holds in (
        ({"categories": ["clocks"]}, lambda product: product.category == "clocks"),
        ({"brands": ["Tolmen"]}, lambda product: product.brand == "Tolmen"),
        ({"price": price}, lambda product: (product.price.units, product.price.nanos) <= (16, 400_000_000)),
        ({"attributes": [teal]}, lambda product: product.attributes["color"] in {"navy", "white"}),
        ({"categories": ["drinkware"], "price": price}, lambda product: product.category == "drinkware"),
    ):
        options = product_catalog_pb2.ProductFilter(**wanted)  # type: ignore[arg-type]
        products = (await client.match(mug, filter=options, max_products=100)).results[0].products
        names = [match.product.name for match in products]
        assert names
        assert f"{CATALOG}/products/mug-teal" not in names
        assert all(holds(match.product) for match in products)
    nothing = product_catalog_pb2.ProductFilter(categories=["clocks"], brands=["nobody"])
    (result,) = (await client.match(mug, filter=nothing)).results
    assert (list(result.products), result.decision) == ([], NO_MATCH)


async def test_max_products_and_thresholds(client: MatcherClient, samples: Path) -> None:
    mug = reference(samples, "mug-teal-1")
    assert len((await client.match(mug, max_products=33)).results[0].products) == 33
    assert len((await client.match(mug, max_products=100)).results[0].products) == 33
    (result,) = (await client.match(mug, min_confidence=0.5)).results
    assert all(match.confidence >= 0.5 for match in result.products)
    (result,) = (await client.match(mug, match_confidence=1.0, similar_confidence=0.0)).results
    assert {match.decision for match in result.products} == {product_matcher_pb2.MATCH_DECISION_SIMILAR}
    (result,) = (await client.match(mug, min_confidence=1.0)).results
    assert (list(result.products), result.decision) == ([], NO_MATCH)


async def test_one_seller_does_not_fill_the_list(tmp_path: Path, triton_endpoint: str) -> None:
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        sellers = ["a", "a", "a", "b", "b", "", ""]
        await client.upsert(
            upsert_of(f"p{row}", row=row, seed=row, attributes={"seller": seller} if seller else {})
            for row, seller in enumerate(sellers)
        )
        every = (await client.match(picture(0), max_products=7)).results[0]

        def names(result: product_matcher_pb2.MatchResult) -> list[str]:
            return [match.product.attributes["seller"] or match.product.name for match in result.products]

        assert sorted(names(every))[:5] == ["a", "a", "a", "b", "b"]
        for most in (1, 2):
            diversity = product_matcher_pb2.MatchDiversity(key="seller", max_products=most)
            thinned = (await client.match(picture(0), max_products=7, diversity=diversity)).results[0]
            left = names(thinned)
            assert (left.count("a"), left.count("b"), len(left)) == (most, most, 2 * most + 2)
            kept = {match.product.name for match in thinned.products}
            assert [m.confidence for m in thinned.products] == [
                m.confidence for m in every.products if m.product.name in kept
            ]
        one = product_matcher_pb2.MatchDiversity(key="seller")
        assert len((await client.match(picture(0), max_products=3, diversity=one)).results[0].products) == 3
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.match(picture(0), diversity=product_matcher_pb2.MatchDiversity(key="vendor", max_products=0))
        assert violations_of(caught.value) == ["diversity.max_products", "diversity.key"]


async def test_given_embeddings_spare_the_embedder(client: MatcherClient, imported: Path, samples: Path) -> None:
    mug = reference(samples, "mug-teal-1")
    response = await client.match(mug, include_embeddings=True)
    (embedding,) = response.results[0].embeddings
    assert len(embedding.values) == 1280
    assert not (await client.match(mug)).results[0].embeddings
    request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
    request.queries.add().views.add(embedding=embedding)
    request.queries.add().views.add(embedding=embedding).embedding.ClearField("colors")
    whole, bare = (await client.matcher.MatchProducts(request)).results
    for given, from_picture in zip(whole.products, response.results[0].products, strict=True):
        assert given.product.name == from_picture.product.name
        assert given.confidence == pytest.approx(from_picture.confidence, abs=1e-4)
    assert bare.products[0].product.name.endswith("/mug-teal")
    assert bare.products[0].similarity == pytest.approx(1, abs=1e-3)
    assert bare.products[1].similarity != pytest.approx(whole.products[1].similarity, abs=1e-3)


async def test_many_queries_are_answered_in_their_order(client: MatcherClient, samples: Path) -> None:
    names = ["mug-teal", "clock-white-walnut", "bowl-charcoal", "teddy-honey"] * 4
    response = await client.match(*(reference(samples, f"{name}-1") for name in names))
    assert [result.products[0].product.name.rpartition("/")[2] for result in response.results] == names


async def test_an_empty_catalogue_is_no_match(tmp_path: Path, triton_endpoint: str) -> None:
    async with matcher_client(settings_of(tmp_path, triton_endpoint)) as client:
        request = product_catalog_pb2.CreateCatalogRequest(catalog_id="sample")
        await client.catalogs.CreateCatalog(request)
        (result,) = (await client.match(picture(1))).results
        assert (list(result.products), result.decision, result.HasField("status")) == ([], NO_MATCH, False)


async def test_min_revision_waits_for_the_write(tmp_path: Path, triton_endpoint: str) -> None:
    async with matcher_client(settings_of(tmp_path, triton_endpoint, min_revision_wait_s=5)) as client:
        _, first = await client.upsert([upsert_of("a")])
        waiting = asyncio.ensure_future(client.match(picture(1), min_revision=first.revision + 1))
        _, second = await client.upsert([upsert_of("b")])
        assert second.revision == first.revision + 1
        response = await waiting
        assert response.catalog_revision == second.revision
        assert len(response.results[0].products) == 2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG, min_revision=second.revision + 1)
            request.queries.add().views.add(image=picture(1))
            await client.matcher.MatchProducts(request, timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(caught.value) == "REVISION_NOT_REACHED"


def bad_requests() -> dict[str, tuple[product_matcher_pb2.MatchProductsRequest, list[str]]]:
    def request(*images: common_pb2.Image, **options: object) -> product_matcher_pb2.MatchProductsRequest:
        made = product_matcher_pb2.MatchProductsRequest(**({"catalog": CATALOG} | options))  # type: ignore[arg-type]
        for image in images:
            made.queries.add().views.add(image=image)
        return made

    good, nan = picture(1), float("nan")
    huge = common_pb2.Image(data=b"123", format=common_pb2.IMAGE_FORMAT_RGB24, width=40_000, height=40_000)
    empty = common_pb2.Image(data=b"123", format=common_pb2.IMAGE_FORMAT_RGB24, width=0, height=0)
    filtered = product_catalog_pb2.ProductFilter
    unknown = filtered(attributes=[product_catalog_pb2.AttributeFilter(key="flavour", values=["x"])])
    dear = product_catalog_pb2.PriceRange(currency_code="euro")
    turned = product_catalog_pb2.PriceRange(currency_code="EUR", min={"units": 2}, max={"units": 1})  # type: ignore[arg-type]
    nine = product_matcher_pb2.MatchQuery(views=[product_matcher_pb2.MatchView(image=good)] * 9)
    embedding = product_matcher_pb2.Embedding(model={"name": "other", "version": "1"}, values=[1.0])  # type: ignore[arg-type]
    numbers = product_matcher_pb2.Embedding(model={"name": "embedder", "version": "1"}, values=[nan] * 1280)  # type: ignore[arg-type]
    colours = product_matcher_pb2.Embedding(model=numbers.model, values=[1.0] + [0.0] * 1279, colors=[0.5, 0.5])
    long = product_matcher_pb2.Embedding(model={"name": "embedder", "version": "1"}, values=[1.0] * 1280)  # type: ignore[arg-type]

    def given(one: product_matcher_pb2.Embedding) -> product_matcher_pb2.MatchProductsRequest:
        return request(queries=[product_matcher_pb2.MatchQuery(views=[product_matcher_pb2.MatchView(embedding=one)])])

    at = "queries[0].views[0]"
    return {
        "nothing": (product_matcher_pb2.MatchProductsRequest(), ["queries", "catalog"]),
        "no query": (request(), ["queries"]),
        "too many queries": (request(*[good] * 65), ["queries"]),
        "no view": (request(queries=[product_matcher_pb2.MatchQuery()]), ["queries[0].views"]),
        "nine views": (request(queries=[nine]), ["queries[0].views"]),
        "empty view": (
            request(queries=[product_matcher_pb2.MatchQuery(views=[product_matcher_pb2.MatchView()])]),
            [at],
        ),
        "thresholds that are no numbers": (
            request(good, min_confidence=nan, match_confidence=nan, similar_confidence=nan),
            ["min_confidence", "match_confidence", "similar_confidence"],
        ),
        "thresholds out of range": (
            request(good, max_products=0, min_confidence=1.1, match_confidence=0.3, similar_confidence=0.4),
            ["max_products", "min_confidence", "similar_confidence"],
        ),
        "101 products": (request(good, max_products=101), ["max_products"]),
        "negative revision": (request(good, min_revision=-1), ["min_revision"]),
        "no pixels": (request(empty), [f"{at}.image"]),
        "40,000 pixels a side": (request(huge), [f"{at}.image"]),
        "empty picture": (request(common_pb2.Image()), [f"{at}.image"]),
        "no picture, twice": (
            request(common_pb2.Image(data=b"x"), good, common_pb2.Image(data=b"GIF89a")),
            [f"{at}.image", "queries[2].views[0].image"],
        ),
        "unknown attribute": (request(good, filter=unknown), ["filter.attributes[0].key"]),
        "unknown attribute and no picture": (
            request(common_pb2.Image(data=b"x"), filter=unknown),
            ["filter.attributes[0].key", f"{at}.image"],
        ),
        "unknown attribute, no picture, and numbers": (
            request(common_pb2.Image(data=b"x"), filter=unknown, max_products=0),
            ["max_products", "filter.attributes[0].key", f"{at}.image"],
        ),
        "no currency": (request(good, filter=filtered(price=dear)), ["filter.price.currency_code"]),
        "prices turned round": (request(good, filter=filtered(price=turned)), ["filter.price.max"]),
        "unknown availability": (request(good, filter=filtered(availabilities=[9])), ["filter.availabilities[0]"]),  # type: ignore[list-item]
        "attribute without values": (
            request(good, filter=filtered(attributes=[product_catalog_pb2.AttributeFilter(key="color")])),
            ["filter.attributes[0].values"],
        ),
        "embedding of another model": (given(embedding), [f"{at}.embedding.model", f"{at}.embedding.values"]),
        "embedding that is no number": (given(numbers), [f"{at}.embedding.values"]),
        "colours of another length": (given(colours), [f"{at}.embedding.colors"]),
        "embedding of another length": (given(long), [f"{at}.embedding.values"]),
    }


BAD = bad_requests()


async def test_bad_requests_are_refused_with_every_violation_and_the_server_goes_on(
    client: MatcherClient, samples: Path
) -> None:
    for name, (request, fields) in BAD.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.matcher.MatchProducts(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        assert violations_of(caught.value) == fields, name
    assert (await client.match(reference(samples, "mug-teal-1"))).results[0].decision == MATCH


async def test_an_unknown_attribute_is_answered_with_the_known_ones(client: MatcherClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.matcher.MatchProducts(BAD["unknown attribute"][0])
    assert "color, material" in (caught.value.details() or "")


async def test_an_unknown_catalogue_is_not_found(client: MatcherClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.match(picture(1), catalog="catalogs/nowhere")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert resource_of(caught.value) == ("catalog", "catalogs/nowhere")


async def test_raw_pixels_and_transparent_pictures_are_taken(client: MatcherClient, samples: Path) -> None:
    with Image.open(samples / "catalog" / "mug-teal-1.jpg") as jpeg:
        raw = raw_image(np.asarray(jpeg.convert("RGB")))
    assert (await client.match(raw)).results[0].products[0].product.name.endswith("/mug-teal")


async def test_limits_are_told(imported: Path, triton_endpoint: str) -> None:
    async with (
        serving(settings_of(imported, triton_endpoint), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        info = await server_info_pb2_grpc.ServerInfoServiceStub(channel).GetServerInfo(
            server_info_pb2.GetServerInfoRequest()
        )
    limits = {limit.name: limit.value for limit in info.limits}
    assert limits["queries_per_request"] == 64
    assert limits["views_per_query"] == 8
    assert limits["images_per_product"] == 16
    assert limits["image_pixels"] >= 10**6


def closed_endpoint() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


async def test_without_triton_matching_is_unavailable_and_embeddings_still_work(
    imported: Path, client: MatcherClient, samples: Path, tmp_path: Path
) -> None:
    mug = reference(samples, "mug-teal-1")
    embedding = (await client.match(mug, include_embeddings=True)).results[0].embeddings[0]
    copy = tmp_path / "copy"
    shutil.copytree(imported, copy)
    async with (
        serving(settings_of(copy, closed_endpoint()), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        lonely = MatcherClient(channel)
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lonely.match(mug)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "INFERENCE_UNAVAILABLE"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in lonely.catalogs.UpsertProducts(requests_of([upsert_of("a")])):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
        request.queries.add().views.add(embedding=embedding)
        answer = await lonely.matcher.MatchProducts(request)
        assert answer.results[0].products[0].product.name.endswith("/mug-teal")


async def test_health_follows_the_embedder(imported: Path, triton_endpoint: str) -> None:
    async with (
        serving(settings_of(imported, triton_endpoint), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "shoppable.v1.ProductMatcherService", "shoppable.v1.ProductCatalogService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_who_opts_out_of_offers_gets_none_and_is_told_so(client: MatcherClient, samples: Path) -> None:
    picture = reference(samples, "mug-teal-1")
    response = await client.match(picture, picture, offers_opt_out=True, include_embeddings=True)
    for result in response.results:
        assert result.withheld == common_pb2.WITHHELD_REASON_OPTED_OUT
        assert (len(result.products), len(result.embeddings), result.decision) == (0, 0, NO_MATCH)
    assert len(response.results) == 2
    # The request is checked as ever.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.match(picture, offers_opt_out=True, max_products=0)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
