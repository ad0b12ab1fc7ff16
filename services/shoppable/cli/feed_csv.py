"""Feeds with a header and a row for each product: cells separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import IO

from shoppable.cli.feed_names import ATTRIBUTE_PREFIX, FieldNames
from shoppable.cli.feed_rows import FeedError, Problem, RawRow

_LINE_BYTES = 1 << 20


def csv_rows(file: IO[bytes], names: FieldNames) -> Iterator[RawRow]:
    """Yield the rows of a table; a cell that is empty is no value.

    Raises:
        FeedError: The header is wrong.
    """
    lines = _lines(file)
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)

    def all_lines() -> Iterator[str]:
        yield first
        yield from lines

    # In tables of tabs a quote is often just a sign for inches; in the others it is what holds a cell together.
    reader = csv.reader(all_lines(), delimiter=delimiter, strict=delimiter != "\t")
    header = _header(reader, names)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield _broken(line, f"is not CSV: {error}")
            continue
        if values is None:
            return
        if not any(values):
            continue
        if len(values) != len(header):
            yield _broken(line, f"has {len(values)} values where the header has {len(header)}")
            continue
        yield _row(line, dict(zip(header, values, strict=True)))


def _lines(file: IO[bytes]) -> Iterator[str]:
    number = 0
    while line := file.readline(_LINE_BYTES):
        # Bytes that are no UTF-8 survive as surrogates, so that they spoil their own row and no other.
        yield line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")
        number += 1


def _header(reader: Iterator[list[str]], names: FieldNames) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise FeedError(f"the header is not CSV: {error}") from error
    if not header:
        raise FeedError("the feed is empty")
    if repeated := [name for name in header if header.count(name) > 1]:
        raise FeedError(f"the header names the column {repeated[0]!r} twice")
    names.check_header(header)
    return header


def _row(line: int, cells: Mapping[str, str]) -> RawRow:
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
        elif name.startswith(ATTRIBUTE_PREFIX):
            attributes[name.removeprefix(ATTRIBUTE_PREFIX)] = value
        else:
            content[name] = value
    if attributes:
        content["attributes"] = attributes
    return RawRow(line, content, problems)


def _broken(line: int, reason: str) -> RawRow:
    return RawRow(line, problems=(Problem("", reason),))
