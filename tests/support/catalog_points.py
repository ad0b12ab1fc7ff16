"""Made-up catalogues, products and vectors for tests of the indexes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from shoppable.matcher import colour
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.ports import ImagePoint, ImageVectors, ProductChange, VectorIndex
from shoppable.matcher.products import Price, Product, ReferenceImage

SIZE = 12
TIME = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)


def record_of(catalog_id: str = "shop", *, size: int = SIZE) -> CatalogRecord:
    return CatalogRecord(catalog_id, "A shop", ModelIdentity("fake", "1", size), created=TIME, updated=TIME)


def unit(values: Sequence[float] | np.ndarray) -> np.ndarray:
    vector = np.asarray(values, np.float32)
    return vector / np.linalg.norm(vector)


def vector_of(seed: int, *, size: int = SIZE) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal(size))


def change_of(
    product_id: str,
    *,
    images: Sequence[str] = ("1",),
    vectors: bool = True,
    embeddings: Mapping[str, np.ndarray] | None = None,
    stale: Sequence[str] = (),
    revision: int = 2,
    **fields: object,
) -> ProductChange:
    """Return a product to be written; its vectors follow from its ids unless they are given."""
    values = {"title": f"Product {product_id}", "attributes": {}} | fields
    product = Product(
        product_id=product_id,
        images=tuple(ReferenceImage(image, f"{image}.jpg", f"digest {image}") for image in images),
        **values,  # type: ignore[arg-type]
    ).stored(created=TIME, updated=LATER, revision=revision)
    points = []
    for ordinal, image in enumerate(product.images):
        seed = sum(f"{product_id}/{image.image_id}".encode())
        embedding = (embeddings or {}).get(image.image_id, vector_of(seed))
        made = ImageVectors(embedding, vector_of(seed, size=colour.SIZE)) if vectors else None
        points.append(ImagePoint(image, ordinal, made))
    return ProductChange(product, product.content_hash(), points, stale)


async def store(index: VectorIndex, *changes: ProductChange, catalog_id: str = "shop") -> CatalogRecord:
    """Write products as the pipelines do: a revision, then the points."""
    keys = {key for change in changes for key in change.product.attributes or {}}
    record = await index.advance(catalog_id, attribute_keys=keys, updated=LATER)
    await index.write(catalog_id, changes, revision=record.revision)
    return record


def euros(units: int, nanos: int = 0) -> Price:
    return Price("EUR", units, nanos)
