"""Product feeds: JSON lines, CSV, TSV, XML or Parquet, read row by row; what is wrong with a row is told with its line.

Feeds are read as they come, and never held whole: only the ids are kept, to tell rows that repeat one. All but Parquet
may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

from shoppable.cli.feed_csv import csv_rows
from shoppable.cli.feed_json import json_rows
from shoppable.cli.feed_names import FieldNames
from shoppable.cli.feed_parquet import parquet_rows
from shoppable.cli.feed_rows import BrokenRow, FeedError, FeedProduct, FeedRow, Problem, RawRow, product_of_row
from shoppable.cli.feed_xml import xml_rows

__all__ = ["BrokenRow", "FeedError", "FeedProduct", "FeedRow", "Problem", "count_rows", "read_feed"]

_Reader = Callable[[IO[bytes], FieldNames], Iterator[RawRow]]
_BY_SUFFIX: Mapping[str, _Reader] = {
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".txt": csv_rows,
    ".xml": xml_rows,
    ".rss": xml_rows,
    ".atom": xml_rows,
}


def read_feed(path: Path, names: FieldNames | None = None) -> Iterator[FeedRow]:
    """Yield the rows of a feed in order; blank lines are no rows.

    Args:
        path: The feed.
        names: What the feed calls its fields; default as each row shows. Learns which names mean nothing.

    Raises:
        FeedError: It is in no format that can be read, or its header is wrong.
        OSError: It cannot be read.
    """
    names = names or FieldNames()
    seen: dict[str, int] = {}
    with path.open("rb") as file:
        for raw in _raw_rows(path, file, names):
            if raw.problems and not raw.content:
                yield BrokenRow(raw.line, "", tuple(raw.problems))
                continue
            row = product_of_row(raw.line, *names.ours(raw))
            if row.product_id in seen and isinstance(row, FeedProduct):
                repeated = Problem("product_id", f"repeats line {seen[row.product_id]}")
                yield BrokenRow(row.line, row.product_id, (repeated,))
                continue
            if row.product_id:
                seen.setdefault(row.product_id, row.line)
            yield row


def count_rows(path: Path, names: FieldNames | None = None) -> int:
    """Return how many rows a feed has; costs a reading, which is little beside embedding the pictures."""
    return sum(1 for _ in read_feed(path, names))


def _raw_rows(path: Path, file: IO[bytes], names: FieldNames) -> Iterator[RawRow]:
    start = file.read(4)
    file.seek(0)
    if start == b"PAR1":
        yield from parquet_rows(file)
        return
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if start.startswith(b"\x1f\x8b"):
        suffixes = [suffix for suffix in suffixes if suffix != ".gz"]
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    try:
        yield from (_BY_SUFFIX.get(suffixes[-1] if suffixes else "") or _guess(file))(file, names)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FeedError(f"the gzip file is broken: {error}") from error


def _guess(file: IO[bytes]) -> _Reader:
    start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return json_rows if start.startswith(b"{") else xml_rows if start.startswith(b"<") else csv_rows
