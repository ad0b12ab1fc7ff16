"""Values to messages and back, and what is stored of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.matcher.adapters.payload import hit_of, payload_of, product_of, stored_image_of
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity, require_embedder
from shoppable.matcher.convert import catalog_to_message, product_from_message, product_to_message
from shoppable.matcher.convert_filters import check_attributes, read_filter
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.ports import Counts, ImagePoint, ProductChange
from shoppable.matcher.products import Price, Product, ReferenceImage
from shoppable.runtime.errors import FailedPreconditionError, InvalidRequestError
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2 as pb

ids = st.text("abcXYZ019-_.~", min_size=1, max_size=128)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
times = st.integers(0, 250_000_000_000_000_000).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
prices = st.builds(Price, st.sampled_from(("EUR", "USD")), st.integers(0, 2**62), st.integers(0, 10**9 - 1))
products = st.builds(
    Product,
    product_id=ids,
    title=texts,
    description=texts,
    brand=texts,
    category=texts,
    price=st.none() | prices,
    uri=texts,
    availability=st.integers(0, 5),
    attributes=st.dictionaries(st.text("ab-_1", min_size=1, max_size=64), texts, max_size=5),
    images=st.lists(st.builds(ReferenceImage, ids, texts), min_size=1, max_size=4).map(tuple),
    created=st.none() | times,
    updated=st.none() | times,
    revision=st.integers(0, 2**62),
)


@given(products)
def test_a_product_survives_being_a_message(product: Product) -> None:
    message = product_to_message("shop", product)
    read = pb.Product.FromString(message.SerializeToString())
    assert read.name == f"catalogs/shop/products/{product.product_id}"
    assert product_from_message(product.product_id, read) == product


@given(products, ids)
def test_a_product_survives_being_stored(product: Product, digest: str) -> None:
    image = replace(product.images[0], digest=digest)
    change = ProductChange(product, "hash", [ImagePoint(image, 0, None)])
    payload = payload_of(change, change.points[0])
    assert product_of(payload) == product
    stored = stored_image_of(payload)
    assert (stored.image_id, stored.digest, stored.content_hash, stored.product) == (
        image.image_id,
        digest,
        "hash",
        product,
    )
    hit = hit_of(payload, 0.5)
    assert (hit.product_id, hit.image_id, hit.image_uri, hit.category, hit.similarity) == (
        product.product_id,
        image.image_id,
        image.uri,
        product.category,
        0.5,
    )


TIME = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
RECORD = CatalogRecord("shop", "Ä shop", ModelIdentity("embedder", "1", 1280), TIME, TIME, 7, ("color", "size"))


def test_a_record_survives_being_json() -> None:
    assert CatalogRecord.from_json(RECORD.to_json()) == RECORD


@pytest.mark.parametrize("change", [{"format": 4}, {"embedder": None}, {"embedder": {}}, {"revision": "x"}])
def test_a_record_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        CatalogRecord.from_json(RECORD.to_json() | change)


def test_a_catalogue_tells_all_that_is_known_of_it() -> None:
    message = catalog_to_message(RECORD, Counts(2, 3))
    assert (message.name, message.display_name, message.revision) == ("catalogs/shop", "Ä shop", 7)
    assert (message.product_count, message.image_count, message.embedding_size) == (2, 3, 1280)
    assert message.create_time.ToDatetime(tzinfo=UTC) == TIME
    assert list(message.attribute_keys) == ["color", "size"]


@pytest.mark.parametrize("running", [("other", "1", 1280), ("embedder", "2", 1280), ("embedder", "1", 512)])
def test_another_embedder_is_refused(running: tuple[str, str, int]) -> None:
    require_embedder(RECORD, ModelIdentity("embedder", "1", 1280))
    with pytest.raises(FailedPreconditionError) as caught:
        require_embedder(RECORD, ModelIdentity(*running))
    assert caught.value.reason == "EMBEDDER_MISMATCH"


def test_a_filter_is_read_whole() -> None:
    message = pb.ProductFilter(
        categories=["c"],
        brands=["b"],
        availabilities=[pb.AVAILABILITY_IN_STOCK],
        attributes=[pb.AttributeFilter(key="color", values=["red", "blue"])],
    )
    message.price.currency_code = "EUR"
    message.price.min.units = 1  # its currency is left out
    message.price.max.currency_code, message.price.max.units, message.price.max.nanos = "EUR", 2, 500_000_000
    violations = Violations()
    read = read_filter(message, "filter", violations)
    violations.raise_if_any()
    assert read == ProductFilter(("c",), ("b",), "EUR", 1.0, 2.5, (1,), (("color", ("red", "blue")),))


def test_a_price_of_another_currency_than_its_range_is_refused() -> None:
    message = pb.ProductFilter()
    message.price.currency_code, message.price.min.currency_code = "EUR", "USD"
    message.price.max.units, message.price.max.nanos = -1, 10**9
    violations = Violations()
    read_filter(message, "filter", violations)
    with pytest.raises(InvalidRequestError) as caught:
        violations.raise_if_any()
    assert [violation.field for violation in caught.value.violations] == [
        "filter.price.min.currency_code",
        "filter.price.max.units",
        "filter.price.max.nanos",
    ]


def test_filters_within_filters_are_read_at_every_level() -> None:
    message = pb.ProductFilter(
        any_of=[pb.ProductFilter(brands=["a"]), pb.ProductFilter(none_of=[pb.ProductFilter(categories=["c"])])],
        attribute_texts=[pb.AttributeTextFilter(key="color", contains="te")],
    )
    violations = Violations()
    assert read_filter(message, "filter", violations) == ProductFilter(
        attribute_texts=(("color", "te"),),
        any_of=(ProductFilter(brands=("a",)), ProductFilter(none_of=(ProductFilter(categories=("c",)),))),
    )
    violations.raise_if_any()


def test_all_that_is_wrong_with_a_composed_filter_is_told() -> None:
    message = pb.ProductFilter(
        all_of=[pb.ProductFilter(), pb.ProductFilter(attribute_texts=[pb.AttributeTextFilter(key="size")])],
        none_of=[pb.ProductFilter(attributes=[pb.AttributeFilter(key="color", values=["x"])])],
    )
    violations = Violations()
    wanted = read_filter(message, "filter", violations)
    check_attributes(wanted, ["size"], "filter", violations)
    with pytest.raises(InvalidRequestError) as caught:
        violations.raise_if_any()
    assert [one.field for one in caught.value.violations] == [
        "filter.all_of[0]",
        "filter.all_of[1].attribute_texts[0].contains",
        "filter.none_of[0].attributes[0].key",
    ]


@pytest.mark.parametrize("shape", ["deep", "wide", "bushy"])
def test_filters_beyond_reason_are_refused_at_once(shape: str) -> None:
    message = pb.ProductFilter(brands=["a"])
    if shape == "deep":
        for _ in range(60):
            message = pb.ProductFilter(any_of=[message])
    elif shape == "wide":
        message = pb.ProductFilter(any_of=[message] * 5000)
    else:
        for _ in range(3):
            message = pb.ProductFilter(any_of=[message] * 8)
    violations = Violations()
    assert read_filter(message, "filter", violations) == ProductFilter()
    with pytest.raises(InvalidRequestError, match="64 filters in 4 levels"):
        violations.raise_if_any()
