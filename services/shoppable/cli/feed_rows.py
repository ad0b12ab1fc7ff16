"""A row of a product feed, as a reader of some format found it, and as a product that can be sent.

It checks what a message cannot carry: types, numbers, names of fields. What a product may say is the server's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shoppable.cli import feed_fields
from shoppable.cli.feed_fields import FieldError
from shoppable.v1 import product_catalog_pb2 as pb


class FeedError(Exception):
    """The feed as a whole cannot be read."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a row."""

    field: str
    reason: str


@dataclass(frozen=True)
class RawRow:
    """A row's values by the names that the feed gives them, or what makes it unreadable.

    Attributes:
        line: Where it begins, from 1; in a Parquet file, the number of the row.
        content: Its values.
        problems: What was wrong already.
    """

    line: int
    content: Mapping[str, object] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class FeedProduct:
    """A row that can be sent, once its pictures are there.

    Attributes:
        line: Where it begins, from 1.
        product_id: Its id.
        product: The message, without pictures.
        images: Paths or https URLs, as written.
    """

    line: int
    product_id: str
    product: pb.Product
    images: tuple[str, ...]


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be sent."""

    line: int
    product_id: str
    problems: tuple[Problem, ...]


FeedRow = FeedProduct | BrokenRow


def product_of_row(line: int, content: Mapping[str, object], found: Sequence[Problem] = ()) -> FeedRow:
    """Turn the values of a row, by our names, into a message, and collect all that is wrong with it."""
    problems = list(found)
    product = pb.Product()
    images: tuple[str, ...] = ()
    product_id = ""
    for name, value in content.items():
        try:
            if name == "product_id":
                product_id = feed_fields.text(value)
            elif name == "images":
                images = feed_fields.images(value)
            else:
                feed_fields.fill(product, name, value)
        except FieldError as error:
            problems.append(Problem(name.encode("utf-8", "replace").decode(), str(error)))
    named = {problem.field for problem in problems}
    problems += [
        Problem(name, "is missing")
        for name, value in (("product_id", product_id), ("title", product.title), ("images", images))
        if not value and name not in named
    ]
    if problems:
        return BrokenRow(line, product_id, tuple(problems))
    return FeedProduct(line, product_id, product, images)
