"""A product as a caller sends it: everything that is wrong with it, or the domain's product. Decodes no pixels."""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from shoppable.matcher import names
from shoppable.matcher.convert import AVAILABILITIES, product_from_message, read_price
from shoppable.matcher.products import Product, digest_of
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, product_catalog_pb2

MAX_IMAGES = 16
_MAX_ATTRIBUTES = 32
_MAX_URI, _MAX_TITLE, _MAX_DESCRIPTION, _MAX_TEXT, _MAX_ATTRIBUTE = 2048, 500, 5000, 200, 500


@dataclass(frozen=True)
class ImageField:
    """A picture that was sent, and the path of its field for violations."""

    image: common_pb2.Image
    field: str


@dataclass(frozen=True)
class IncomingProduct:
    """A product that was sent: its images' ids and digests in `product`, and their bytes in the same order."""

    product: Product
    images: tuple[ImageField, ...]


def upsert_id(message: product_catalog_pb2.ProductUpsert) -> str:
    """Return the product's id as far as it can be read, of at most 128 characters; "" if not at all."""
    return (message.product_id or message.product.name.rpartition("/")[2])[:128]


def read_upsert(message: product_catalog_pb2.ProductUpsert, catalog_id: str) -> IncomingProduct:
    """Return the product that was sent. Blocking: it hashes the pictures.

    Raises:
        InvalidRequestError: With all that is wrong.
    """
    violations = Violations()
    product_id = _read_id(message, catalog_id, violations)
    violations.check(message.HasField("product"), "product", "must be set")
    check_fields(message.product, violations)
    images = _read_images(message.product, violations)
    violations.raise_if_any()
    product = product_from_message(product_id, message.product)
    references = tuple(
        replace(reference, digest=_digest(given.image)) for reference, given in zip(product.images, images, strict=True)
    )
    return IncomingProduct(replace(product, images=references, created=None, updated=None, revision=0), images)


def check_fields(product: product_catalog_pb2.Product, violations: Violations) -> None:
    """Note all that is wrong with a product, apart from its id and its images."""
    _check_texts(product, violations)
    _check_price_and_attributes(product, violations)


def _read_id(message: product_catalog_pb2.ProductUpsert, catalog_id: str, violations: Violations) -> str:
    name = message.product.name
    named: str | None = None
    if name:
        parsed = names.parse_product_name(name)
        if parsed is None:
            violations.add("product.name", names.PRODUCT_NAME_RULE)
        elif parsed[0] != catalog_id:
            violations.add("product.name", f"must be in {names.catalog_name(catalog_id)}, as the stream's config says")
        else:
            named = parsed[1]
    elif not message.product_id:
        violations.add("product_id", "must be set, or product.name")
    if message.product_id and violations.check(
        names.is_product_id(message.product_id), "product_id", names.PRODUCT_ID_RULE
    ):
        violations.check(named in (None, message.product_id), "product_id", "must agree with product.name")
    return named or message.product_id


def _check_texts(product: product_catalog_pb2.Product, violations: Violations) -> None:
    violations.check(1 <= len(product.title) <= _MAX_TITLE, "product.title", f"must be 1..{_MAX_TITLE} characters")
    for field, most in (("description", _MAX_DESCRIPTION), ("brand", _MAX_TEXT), ("category", _MAX_TEXT)):
        violations.check(len(getattr(product, field)) <= most, f"product.{field}", f"must be at most {most} characters")
    violations.check(
        len(product.uri) <= _MAX_URI and (not product.uri or _is_web_address(product.uri)),
        "product.uri",
        f"must be an http or https address of at most {_MAX_URI} characters",
    )
    violations.check(product.availability in AVAILABILITIES, "product.availability", "must be a known availability")


def _check_price_and_attributes(product: product_catalog_pb2.Product, violations: Violations) -> None:
    if product.HasField("price"):
        read_price(product.price, "product.price", violations)
    violations.check(
        len(product.attributes) <= _MAX_ATTRIBUTES, "product.attributes", f"must be at most {_MAX_ATTRIBUTES}"
    )
    for key, value in product.attributes.items():
        shown = key[:64]
        violations.check(
            names.is_attribute_key(key), f'product.attributes["{shown}"]', f"key {names.ATTRIBUTE_KEY_RULE}"
        )
        violations.check(
            len(value) <= _MAX_ATTRIBUTE,
            f'product.attributes["{shown}"]',
            f"value must be at most {_MAX_ATTRIBUTE} characters",
        )


def _read_images(product: product_catalog_pb2.Product, violations: Violations) -> tuple[ImageField, ...]:
    count = len(product.images)
    violations.check(1 <= count <= MAX_IMAGES, "product.images", f"must be 1..{MAX_IMAGES} pictures, and is {count}")
    seen: set[str] = set()
    found = []
    for number, reference in enumerate(product.images[: MAX_IMAGES + 1]):
        at = f"product.images[{number}]"
        image_id = reference.image_id or str(number + 1)
        violations.check(names.is_product_id(image_id), f"{at}.image_id", names.PRODUCT_ID_RULE)
        violations.check(image_id not in seen, f"{at}.image_id", f"must differ from the others', and is {image_id}")
        seen.add(image_id)
        violations.check(len(reference.uri) <= _MAX_URI, f"{at}.uri", f"must be at most {_MAX_URI} characters")
        violations.check(bool(reference.image.data), f"{at}.image", "must be a picture, and is empty")
        found.append(ImageField(reference.image, f"{at}.image"))
    return tuple(found)


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _digest(image: common_pb2.Image) -> str:
    raw = image.format == common_pb2.IMAGE_FORMAT_RGB24
    return digest_of(image.data, layout=f"rgb24 {image.width}x{image.height}" if raw else "")
