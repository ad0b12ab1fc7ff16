"""Catalogues, products and filters, from the contract's messages to the domain's values and back."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2

from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.names import catalog_name, product_name
from shoppable.matcher.ports import Counts
from shoppable.matcher.products import Price, Product, ReferenceImage
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, product_catalog_pb2

_NANOS = 1_000_000_000
AVAILABILITIES = frozenset(product_catalog_pb2.Availability.values())


def catalog_to_message(record: CatalogRecord, counts: Counts) -> product_catalog_pb2.Catalog:
    """Return a catalogue as callers see it."""
    return product_catalog_pb2.Catalog(
        name=catalog_name(record.catalog_id),
        display_name=record.display_name,
        embedder=model_to_message(record.embedder),
        embedding_size=record.embedder.size,
        revision=record.revision,
        product_count=counts.products,
        image_count=counts.images,
        create_time=_to_timestamp(record.created),
        update_time=_to_timestamp(record.updated),
        attribute_keys=record.attribute_keys,
        calibrated=bool(record.fit),
    )


def model_to_message(model: ModelIdentity) -> common_pb2.ModelVersion:
    """Return a model's name and version."""
    return common_pb2.ModelVersion(name=model.name, version=model.version)


def product_to_message(catalog_id: str, product: Product) -> product_catalog_pb2.Product:
    """Return a product as callers see it."""
    message = product_catalog_pb2.Product(
        name=product_name(catalog_id, product.product_id),
        title=product.title,
        description=product.description,
        brand=product.brand,
        category=product.category,
        uri=product.uri,
        attributes=product.attributes,
        images=[product_catalog_pb2.ReferenceImage(image_id=image.image_id, uri=image.uri) for image in product.images],
        revision=product.revision,
    )
    # A number that a newer version stored is kept by proto3's open enums; the stubs know the named ones only.
    message.availability = product.availability  # type: ignore[assignment]
    if product.price:
        message.price.CopyFrom(
            money_pb2.Money(
                currency_code=product.price.currency_code, units=product.price.units, nanos=product.price.nanos
            )
        )
    if product.created:
        message.create_time.CopyFrom(_to_timestamp(product.created))
    if product.updated:
        message.update_time.CopyFrom(_to_timestamp(product.updated))
    return message


def product_from_message(product_id: str, message: product_catalog_pb2.Product) -> Product:
    """Return what a stored or a validated message says of a product, without digests of its images."""
    return Product(
        product_id=product_id,
        title=message.title,
        description=message.description,
        brand=message.brand,
        category=message.category,
        price=price_from_message(message.price) if message.HasField("price") else None,
        uri=message.uri,
        availability=int(message.availability),
        attributes=dict(message.attributes),
        images=tuple(
            ReferenceImage(image_id=image.image_id or str(number), uri=image.uri)
            for number, image in enumerate(message.images, start=1)
        ),
        created=_from_timestamp(message.create_time) if message.HasField("create_time") else None,
        updated=_from_timestamp(message.update_time) if message.HasField("update_time") else None,
        revision=message.revision,
    )


def price_from_message(money: money_pb2.Money) -> Price:
    """Return an amount of money."""
    return Price(money.currency_code, money.units, money.nanos)


def read_price(money: money_pb2.Money, field: str, violations: Violations, *, currency_code: str = "") -> Price | None:
    """Return an amount; on a violation None. With `currency_code`, the amount's own may be left out."""
    code = money.currency_code or currency_code
    right = violations.check(is_currency_code(code), f"{field}.currency_code", "must be three capital letters")
    if right and currency_code:
        right = violations.check(code == currency_code, f"{field}.currency_code", f"must be {currency_code}, or unset")
    right &= violations.check(money.units >= 0, f"{field}.units", "must not be negative")
    right &= violations.check(0 <= money.nanos < _NANOS, f"{field}.nanos", f"must be in 0..{_NANOS - 1}")
    return Price(code, money.units, money.nanos) if right else None


def is_currency_code(text: str) -> bool:
    """Tell whether a text is three capital letters A..Z."""
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


def _to_timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _from_timestamp(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
