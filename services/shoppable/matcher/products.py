"""What a product is, and when two are the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

# Changes when what counts as "the same product" changes: every stored product is then written again when next sent.
_HASH_VERSION = 1

BRAND = "brand"  # where an attribute's key could stand as well


@dataclass(frozen=True)
class Price:
    """An amount of money: `units` whole units and `nanos` billionths, 0..999,999,999, neither negative."""

    currency_code: str
    units: int
    nanos: int = 0

    @property
    def amount(self) -> float:
        """The amount in the currency's units, as the index holds and compares it."""
        return self.units + self.nanos / 1e9


@dataclass(frozen=True)
class ReferenceImage:
    """A picture of a product: its id within the product, where a person can see it, and what its bytes are."""

    image_id: str
    uri: str = ""
    digest: str = ""  # `digest_of` its bytes; empty where only the product's text was read


@dataclass(frozen=True)
class Product:
    """Something one can buy, without its pictures' pixels."""

    product_id: str
    title: str
    description: str = ""
    brand: str = ""
    category: str = ""
    price: Price | None = None
    uri: str = ""
    availability: int = 0  # the contract's numbers
    attributes: Mapping[str, str] | None = None
    images: Sequence[ReferenceImage] = ()
    created: datetime | None = None
    updated: datetime | None = None
    revision: int = 0

    def said_of(self, key: str) -> str:
        """Return its brand, if the key is "brand", or an attribute; empty if it does not say."""
        return self.brand if key == BRAND else (self.attributes or {}).get(key, "")

    def content_hash(self) -> str:
        """Return a digest of all that its seller says of it, pictures included: equal if nothing changed."""
        content = {
            "version": _HASH_VERSION,
            "id": self.product_id,
            "title": self.title,
            "description": self.description,
            "brand": self.brand,
            "category": self.category,
            "price": [self.price.currency_code, self.price.units, self.price.nanos] if self.price else None,
            "uri": self.uri,
            "availability": self.availability,
            "attributes": dict(self.attributes or {}),
            "images": [[image.image_id, image.uri, image.digest] for image in self.images],
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def stored(self, *, created: datetime, updated: datetime, revision: int) -> "Product":
        """Return it as it is stored: with its times and its catalogue's revision."""
        return replace(self, created=created, updated=updated, revision=revision)


def digest_of(data: bytes, *, layout: str = "") -> str:
    """Return a digest of a picture's bytes; `layout` tells apart raw pictures that are shaped differently."""
    return hashlib.sha256(layout.encode() + b"\0" + data).hexdigest()


def now() -> datetime:
    """Return the time, in whole microseconds, as protobuf and JSON both keep it."""
    return datetime.now(UTC)
