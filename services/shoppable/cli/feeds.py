"""Product feeds: JSON lines or CSV, read row by row; what is wrong with a row is told with its line.

It checks what a message cannot carry: types, numbers, names of fields. What a product may say is the server's to judge.
Feeds are read as they come, and never held whole.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shoppable.cli import feed_fields
from shoppable.cli.feed_fields import FieldError
from shoppable.v1 import product_catalog_pb2 as pb

_LINE_BYTES = 1 << 20
_COLUMNS = frozenset({*feed_fields.FIELDS, "currency"})
_ATTRIBUTE_PREFIX = "attr."


class FeedError(Exception):
    """The feed as a whole cannot be read."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a row."""

    field: str
    reason: str


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


def read_feed(path: Path) -> Iterator[FeedRow]:
    """Yield the rows of a feed in order; blank lines are no rows.

    Raises:
        FeedError: It is neither JSON lines nor CSV, or its header is wrong.
        OSError: It cannot be read.
    """
    seen: dict[str, int] = {}
    with path.open("rb") as file:
        rows = _json_rows(file) if _is_json(path, file) else _csv_rows(file)
        for row in rows:
            if row.product_id in seen and isinstance(row, FeedProduct):
                repeated = Problem("product_id", f"repeats line {seen[row.product_id]}")
                yield BrokenRow(row.line, row.product_id, (repeated,))
                continue
            if row.product_id:
                seen.setdefault(row.product_id, row.line)
            yield row


def count_rows(path: Path) -> int:
    """Return how many rows a feed has; costs a reading, which is little beside embedding the pictures."""
    return sum(1 for _ in read_feed(path))


def _is_json(path: Path, file: IO[bytes]) -> bool:
    suffix = path.suffix.lower()
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return True
    if suffix in {".csv", ".tsv"}:
        return False
    start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return start.startswith(b"{")


def _json_rows(file: IO[bytes]) -> Iterator[FeedRow]:
    number = 0
    while line := file.readline(_LINE_BYTES + 1):
        number += 1
        if len(line) > _LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(_LINE_BYTES)
            yield BrokenRow(number, "", (Problem("", f"is longer than {_LINE_BYTES} bytes"),))
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> FeedRow:
    try:
        content = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return BrokenRow(number, "", (Problem("", "is not UTF-8"),))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"is not JSON: {error.msg} at column {error.colno}"
        else:
            reason = "is not JSON that can be read"
        return BrokenRow(number, "", (Problem("", reason),))
    if not isinstance(content, dict):
        return BrokenRow(number, "", (Problem("", "must be one JSON object: the feed has one product a line"),))
    return _row(number, content)


def _csv_rows(file: IO[bytes]) -> Iterator[FeedRow]:
    # Bytes that are no UTF-8 survive as surrogates, so that they spoil their own row and no other.
    lines = (
        line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape") for number, line in enumerate(file)
    )
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)

    def all_lines() -> Iterator[str]:
        yield first
        yield from lines

    reader = csv.reader(all_lines(), delimiter=delimiter, strict=True)
    header = _header(reader)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield BrokenRow(line, "", (Problem("", f"is not CSV: {error}"),))
            continue
        if values is None:
            return
        if not any(values):
            continue
        if len(values) != len(header):
            yield BrokenRow(line, "", (Problem("", f"has {len(values)} values where the header has {len(header)}"),))
            continue
        yield _csv_row(line, dict(zip(header, values, strict=True)))


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise FeedError(f"the header is not CSV: {error}") from error
    if not header:
        raise FeedError("the feed is empty")
    unknown = [name for name in header if name not in _COLUMNS and not name.startswith(_ATTRIBUTE_PREFIX)]
    if unknown:
        raise FeedError(
            f"the header names an unknown column: {unknown[0]!r}; columns are {', '.join(sorted(_COLUMNS))} and attr.*"
        )
    if repeated := [name for name in header if header.count(name) > 1]:
        raise FeedError(f"the header names the column {repeated[0]!r} twice")
    if missing := [name for name in ("product_id", "title", "images") if name not in header]:
        raise FeedError(f"the header lacks the column {missing[0]!r}")
    return header


def _csv_row(line: int, cells: Mapping[str, str]) -> FeedRow:
    problems: list[Problem] = []
    content: dict[str, object] = {}
    attributes: dict[str, object] = {}
    for name, cell in cells.items():
        value = cell.strip()
        if not value:
            continue
        if name == "images":
            content[name] = [part.strip() for part in value.split("|") if part.strip()]
        elif name == "attributes":
            try:
                loaded = json.loads(value)
            except (ValueError, RecursionError):
                loaded = None
            if isinstance(loaded, dict):
                attributes = {**loaded, **attributes}
            else:
                problems.append(Problem(name, "must be a JSON object"))
        elif name.startswith(_ATTRIBUTE_PREFIX):
            attributes[name.removeprefix(_ATTRIBUTE_PREFIX)] = value
        elif name != "currency":
            content[name] = value
    if attributes:
        content["attributes"] = attributes
    if currency := cells.get("currency", "").strip():
        content["price"] = f"{content['price']} {currency}" if "price" in content else f"? {currency}"
    return _row(line, content, problems)


def _row(line: int, content: Mapping[str, object], found: list[Problem] | None = None) -> FeedRow:
    """Turn the values of a row into a message, and collect all that is wrong with it."""
    problems = list(found or ())
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
