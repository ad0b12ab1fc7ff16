"""Backups, from the domain's values to the contract's messages, and back from what may be anybody's file."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np

from shoppable.matcher import colour, names
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.convert import catalog_to_message, product_from_message, product_to_message
from shoppable.matcher.convert_upserts import MAX_IMAGES, check_fields
from shoppable.matcher.fits import read_fit
from shoppable.matcher.ports import Counts, Floats, ImagePoint, ImageVectors, ProductChange, Space
from shoppable.matcher.products import now
from shoppable.matcher.snapshots import End
from shoppable.runtime.errors import FailedPreconditionError, InvalidRequestError, Violation
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2 as messages

_FORMAT = 1
_MAX_REQUEST_ID, _MAX_DIGEST, _MAX_SIZE = 128, 128, 65_536
_LENGTH_TOLERANCE = 1e-3
_DTYPE = "<f4"


@dataclass(frozen=True)
class RestoreConfig:
    """What is to be made of a backup."""

    catalog_id: str
    replace: bool


def header_to_message(record: CatalogRecord) -> messages.SnapshotRecord:
    """Return what a backup begins with."""
    catalog = catalog_to_message(record, Counts())
    catalog.ClearField("name")  # a caller with rights on one catalogue may restore into it what another was
    header = messages.SnapshotHeader(format=_FORMAT, catalog=catalog, rooted=record.rooted, calibration=record.fit)
    return messages.SnapshotRecord(header=header)


def part_to_message(part: ProductChange | End) -> messages.SnapshotRecord:
    """Return a product, or the end."""
    if isinstance(part, End):
        end = messages.SnapshotEnd(product_count=part.products, image_count=part.images, revision=part.revision)
        return messages.SnapshotRecord(end=end)
    product = product_to_message("", part.product)
    product.ClearField("name")
    del product.images[:]
    message = messages.SnapshotProduct(product_id=part.product.product_id, product=product)
    for point in part.points:
        message.product.images.add(image_id=point.image.image_id, uri=point.image.uri)
        vectors = point.vectors
        message.images.add(
            digest=point.image.digest,
            embedding=b"" if vectors is None else vectors.embedding.astype(_DTYPE).tobytes(),
            colors=b"" if vectors is None else vectors.colour.astype(_DTYPE).tobytes(),
        )
    return messages.SnapshotRecord(product=message)


async def read_restore_config(requests: AsyncIterator[messages.RestoreCatalogRequest]) -> RestoreConfig:
    """Return the stream's config, its first message.

    Raises:
        InvalidRequestError: The first message is none, or is wrong.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("request") != "config":
        raise InvalidRequestError([Violation("config", "must be the first message of the stream")])
    violations = Violations()
    catalog_id = names.parse_catalog_name(first.config.catalog)
    violations.check(catalog_id is not None, "config.catalog", names.CATALOG_NAME_RULE)
    rule = f"must be at most {_MAX_REQUEST_ID} characters"
    violations.check(len(first.config.request_id) <= _MAX_REQUEST_ID, "config.request_id", rule)
    violations.raise_if_any()
    return RestoreConfig(catalog_id or "", first.config.replace)


async def read_header(requests: AsyncIterator[messages.RestoreCatalogRequest], catalog_id: str) -> CatalogRecord:
    """Return the record of the catalogue that is to be made.

    Raises:
        InvalidRequestError: There is no header, or it is wrong.
        FailedPreconditionError: It is of a newer format.
    """
    request = await anext(requests, None)
    if request is None or request.record.WhichOneof("record") != "header":
        raise InvalidRequestError([Violation("record.header", "must follow the config: this is no backup")])
    header, catalog = request.record.header, request.record.header.catalog
    if header.format > _FORMAT:
        raise FailedPreconditionError(
            f"the backup has format {header.format}, and this server reads up to {_FORMAT}", reason="SNAPSHOT_TOO_NEW"
        )
    violations = Violations()
    violations.check(header.format == _FORMAT, "record.header.format", f"must be {_FORMAT}")
    at = "record.header.catalog"
    size = catalog.embedding_size
    violations.check(1 <= size <= _MAX_SIZE, f"{at}.embedding_size", f"must be in 1..{_MAX_SIZE}")
    violations.check(bool(catalog.embedder.name), f"{at}.embedder.name", "must be set")
    violations.check(len(catalog.display_name) <= 200, f"{at}.display_name", "must be at most 200 characters")
    violations.check(catalog.revision >= 0, f"{at}.revision", "must not be negative")
    known = all(names.is_attribute_key(key) for key in catalog.attribute_keys)
    violations.check(known, f"{at}.attribute_keys", f"each {names.ATTRIBUTE_KEY_RULE}")
    fits = _is_fit(header.calibration, size) if header.calibration else True
    violations.check(fits, "record.header.calibration", "must be a calibration of this catalogue's embeddings")
    violations.raise_if_any()
    return CatalogRecord(
        catalog_id=catalog_id,
        display_name=catalog.display_name,
        embedder=ModelIdentity(catalog.embedder.name, catalog.embedder.version, size),
        created=now(),
        updated=now(),
        revision=max(1, catalog.revision),
        attribute_keys=tuple(sorted(set(catalog.attribute_keys))),
        rooted=header.rooted,
        worded=True,  # products are written anew, with their words
        fit=header.calibration,
    )


async def parts_of_stream(
    requests: AsyncIterator[messages.RestoreCatalogRequest], record: CatalogRecord
) -> AsyncIterator[ProductChange | End]:
    """Yield the products and the end.

    Raises:
        InvalidRequestError: A message is neither, or a product is wrong.
    """
    async for request in requests:
        match request.record.WhichOneof("record") if request.WhichOneof("request") == "record" else None:
            case "product":
                yield _read_product(request.record.product, record)
            case "end":
                end = request.record.end
                yield End(end.product_count, end.image_count, end.revision)
            case _:
                raise InvalidRequestError([Violation("record", "must be a product or the end, after the header")])


def _read_product(message: messages.SnapshotProduct, record: CatalogRecord) -> ProductChange:
    violations = Violations()
    at = "record.product"
    violations.check(names.is_product_id(message.product_id), f"{at}.product_id", names.PRODUCT_ID_RULE)
    check_fields(message.product, violations)
    given, indexed = message.product.images, message.images
    violations.check(
        1 <= len(given) == len(indexed) <= MAX_IMAGES,
        f"{at}.images",
        f"must be 1..{MAX_IMAGES}, as many as the product has, and is {len(indexed)} of {len(given)}",
    )
    ids = [image.image_id for image in given]
    valid = all(names.is_product_id(image_id) for image_id in ids) and len(set(ids)) == len(ids)
    violations.check(valid, f"{at}.product.images", "must have ids that differ")
    vectors: list[ImageVectors] = []
    for place, image in enumerate(indexed[: MAX_IMAGES + 1]):
        field = f"{at}.images[{place}]"
        violations.check(
            len(image.digest) <= _MAX_DIGEST, f"{field}.digest", f"must be at most {_MAX_DIGEST} characters"
        )
        embedding = _vector(image.embedding, f"{field}.embedding", violations, record.embedder.size)
        colours = _vector(image.colors, f"{field}.colors", violations, colour.SIZE)
        vectors.append(ImageVectors(embedding, colours))
    times = message.product.HasField("create_time") and message.product.HasField("update_time")
    violations.check(times, f"{at}.product", "must have create_time and update_time")
    try:
        violations.raise_if_any()
        product = product_from_message(message.product_id, message.product)
    except InvalidRequestError as error:
        told = [
            Violation(wrong.field, f"{wrong.description} ({message.product_id[:128]})") for wrong in error.violations
        ]
        raise InvalidRequestError(told) from error
    except ValueError as error:  # a time that is none
        raise InvalidRequestError([Violation(f"{at}.product.update_time", "must be a time")]) from error
    images = tuple(
        replace(reference, digest=image.digest) for reference, image in zip(product.images, indexed, strict=True)
    )
    return ProductChange(
        product=product,
        content_hash=replace(product, images=images).content_hash(),
        points=[ImagePoint(*one) for one in zip(images, range(len(images)), vectors, strict=True)],
    )


def _vector(data: bytes, field: str, violations: Violations, size: int) -> Floats:
    if not violations.check(
        len(data) == 4 * size, field, f"must be {size} numbers of 4 bytes, and is {len(data)} bytes"
    ):
        return np.zeros(size, np.float32)
    vector: Floats = np.frombuffer(data, _DTYPE).astype(np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    violations.check(abs(length - 1) <= _LENGTH_TOLERANCE, field, f"must have length 1, and has {length:.4g}")
    return vector


def _is_fit(text: str, size: int) -> bool:
    try:
        centring = read_fit(text).centring
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    sizes = {Space.EMBEDDING: size, Space.COLOUR: colour.SIZE}
    return centring is not None and all(
        means.of(space).shape == (sizes[space],) and bool(np.isfinite(means.of(space)).all())
        for means in (centring.references, centring.queries)
        for space in Space
    )
