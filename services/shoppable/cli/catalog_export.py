"""Writes a catalogue as a feed that can be imported again: JSON lines, by our names."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from google.type.money_pb2 import Money

from shoppable.v1 import product_catalog_pb2 as pb


@dataclass
class Exported:
    """What was written.

    Attributes:
        products: How many.
        without_picture: Ids of those of which the catalogue does not know where each picture is: they cannot be
            imported again from the feed alone.
    """

    products: int
    without_picture: list[str]


async def write_feed(products: AsyncIterator[pb.Product], file: IO[str], folder: Path) -> Exported:
    """Write products as they come, one a line; pictures below `folder` are named relative to it."""
    exported = Exported(0, [])
    async for product in products:
        file.write(json.dumps(row_of(product, folder), ensure_ascii=False) + "\n")
        exported.products += 1
        if not all(image.uri for image in product.images):
            exported.without_picture.append(product.name.rpartition("/")[2])
    return exported


def row_of(product: pb.Product, folder: Path) -> dict[str, object]:
    """Return a product as a feed's row; what is not stated is left out."""
    row: dict[str, object] = {
        "product_id": product.name.rpartition("/")[2],
        "title": product.title,
        "description": product.description,
        "category": product.category,
        "brand": product.brand,
        "price": _price(product.price) if product.HasField("price") else "",
        "url": product.uri,
        "availability": _availability(product.availability),
        "images": [_reference(image.uri, folder) for image in product.images if image.uri],
        "attributes": dict(sorted(product.attributes.items())),
    }
    return {name: value for name, value in row.items() if value}


def _price(price: Money) -> str:
    amount = Decimal(price.units) + Decimal(price.nanos).scaleb(-9)
    digits = f"{amount:.9f}".rstrip("0").rstrip(".")
    whole, _, part = digits.partition(".")
    # As prices are written: two places, more only where they say something.
    return f"{whole}.{part.ljust(2, '0')} {price.currency_code}"


def _availability(number: int) -> str:
    known = pb.Availability.DESCRIPTOR.values_by_number.get(number)
    name = known.name.removeprefix("AVAILABILITY_").lower() if known else "unspecified"
    return "" if name == "unspecified" else name


def _reference(uri: str, folder: Path) -> str:
    """Return a picture's place as a feed names it: a path for a file, a name for a member of an archive."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return uri
    if parts.fragment:
        return unquote(parts.fragment)
    path = Path(unquote(parts.path))
    return os.fspath(path.relative_to(folder)) if path.is_relative_to(folder) else os.fspath(path)
