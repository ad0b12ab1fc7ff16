"""What is written beside an image's vectors, for both kinds of Qdrant.

Each point carries all that a filter asks for, and its whole product, so that a found image needs no second look-up.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shoppable.matcher import filters
from shoppable.matcher.convert import product_from_message, product_to_message
from shoppable.matcher.ports import (
    ImageHit,
    ImagePoint,
    ImageVectors,
    IndexedImage,
    ProductChange,
    Space,
    StoredImage,
    TextHit,
)
from shoppable.matcher.products import Product, ReferenceImage
from shoppable.matcher.texts import text_of
from shoppable.v1 import product_catalog_pb2

# Indexed from the first day of a catalogue; attributes follow as products bring them.
KEYWORDS = (filters.PRODUCT, filters.CATEGORY, filters.BRAND, filters.CURRENCY)
FLOATS = (filters.PRICE,)
INTEGERS = (filters.AVAILABILITY, filters.ORDINAL)
TEXT = "text"  # indexed by its words

IMAGE, _URI, DIGEST, CONTENT_HASH, MESSAGE = "image", "image_uri", "digest", "content_hash", "message"
HIT_FIELDS = (filters.PRODUCT, filters.CATEGORY, IMAGE, _URI)
IMAGE_FIELDS = (filters.PRODUCT, IMAGE)
STORED_FIELDS = (filters.PRODUCT, IMAGE, DIGEST, CONTENT_HASH, MESSAGE)
WHOLE_FIELDS = (*STORED_FIELDS, _URI, filters.ORDINAL)
PRODUCT_FIELDS = (filters.PRODUCT, MESSAGE)


def payload_of(change: ProductChange, point: ImagePoint) -> dict[str, Any]:
    """Return the payload of an image's point."""
    product = change.product
    payload: dict[str, Any] = {
        filters.PRODUCT: product.product_id,
        filters.ORDINAL: point.ordinal,
        filters.CATEGORY: product.category,
        filters.BRAND: product.brand,
        filters.AVAILABILITY: product.availability,
        IMAGE: point.image.image_id,
        _URI: point.image.uri,
        DIGEST: point.image.digest,
        CONTENT_HASH: change.content_hash,
        MESSAGE: _pack(product),
    }
    if product.price:
        payload[filters.CURRENCY] = product.price.currency_code
        payload[filters.PRICE] = product.price.amount
    if point.ordinal == 0:  # with every image, words would be as common as their product has images
        payload[TEXT] = text_of(product)
    for key, value in (product.attributes or {}).items():
        payload[filters.attribute_field(key)] = value
    return payload


def hit_of(payload: Mapping[str, Any] | None, similarity: float) -> ImageHit:
    """Return what a search found, from `HIT_FIELDS`."""
    payload = payload or {}
    return ImageHit(
        product_id=payload[filters.PRODUCT],
        image_id=payload[IMAGE],
        image_uri=payload[_URI],
        category=payload[filters.CATEGORY],
        similarity=similarity,
    )


def text_hit_of(payload: Mapping[str, Any] | None, score: float) -> TextHit:
    """Return what a search for words found."""
    return TextHit((payload or {})[filters.PRODUCT], score)


def vectors_of(vectors: Any) -> ImageVectors:
    """Return a point's two vectors."""
    return ImageVectors(*(np.asarray(vectors[space.value], np.float32) for space in (Space.EMBEDDING, Space.COLOUR)))


def indexed_image_of(payload: Mapping[str, Any] | None, vectors: Any) -> IndexedImage:
    """Return an image as the index holds it, from `IMAGE_FIELDS` and its vectors."""
    payload = payload or {}
    return IndexedImage(payload[filters.PRODUCT], payload[IMAGE], vectors_of(vectors))


def stored_image_of(payload: Mapping[str, Any] | None) -> StoredImage:
    """Return a stored image, from `STORED_FIELDS`."""
    payload = payload or {}
    return StoredImage(
        image_id=payload[IMAGE],
        digest=payload[DIGEST],
        content_hash=payload[CONTENT_HASH],
        product=product_of(payload),
    )


def changes_of(points: Iterable[tuple[Mapping[str, Any], Any]]) -> list[ProductChange]:
    """Return whole products, in the order of their ids, from `WHOLE_FIELDS` and the vectors of all their images."""
    by_product: dict[str, list[tuple[Mapping[str, Any], Any]]] = {}
    for payload, vectors in points:
        by_product.setdefault(payload[filters.PRODUCT], []).append((payload, vectors))
    return [_change_of(by_product[product_id]) for product_id in sorted(by_product)]


def _change_of(points: list[tuple[Mapping[str, Any], Any]]) -> ProductChange:
    points.sort(key=lambda point: point[0][filters.ORDINAL])
    images = [ReferenceImage(payload[IMAGE], payload[_URI], payload[DIGEST]) for payload, _ in points]
    return ProductChange(
        product=product_of(points[0][0]),
        content_hash=points[0][0][CONTENT_HASH],
        points=[
            ImagePoint(image, ordinal, vectors_of(vectors))
            for ordinal, (image, (_, vectors)) in enumerate(zip(images, points, strict=True))
        ],
    )


def product_of(payload: Mapping[str, Any] | None) -> Product:
    """Return a stored product, from `PRODUCT_FIELDS`."""
    payload = payload or {}
    message = product_catalog_pb2.Product.FromString(base64.b64decode(payload[MESSAGE]))
    return product_from_message(payload[filters.PRODUCT], message)


def _pack(product: Product) -> str:
    message = product_to_message("", product)
    message.ClearField("name")  # the point says where it is
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode()
