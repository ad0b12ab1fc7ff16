"""Feeds of JSON lines: one product a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import IO

from shoppable.cli.feed_names import FieldNames
from shoppable.cli.feed_rows import Problem, RawRow

_LINE_BYTES = 1 << 20


def json_rows(file: IO[bytes], _names: FieldNames) -> Iterator[RawRow]:
    """Yield the rows of JSON lines; numbers with a fraction come as exact decimals."""
    number = 0
    while line := file.readline(_LINE_BYTES + 1):
        number += 1
        if len(line) > _LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(_LINE_BYTES)
            yield _broken(number, f"is longer than {_LINE_BYTES} bytes")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _row(number, line)


def _row(number: int, line: bytes) -> RawRow:
    try:
        content = json.loads(line.decode("utf-8"), parse_float=Decimal)
    except UnicodeDecodeError:
        return _broken(number, "is not UTF-8")
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            return _broken(number, f"is not JSON: {error.msg} at column {error.colno}")
        return _broken(number, "is not JSON that can be read")
    if not isinstance(content, dict):
        return _broken(number, "must be one JSON object: the feed has one product a line")
    return RawRow(number, content)


def _broken(number: int, reason: str) -> RawRow:
    return RawRow(number, problems=(Problem("", reason),))
