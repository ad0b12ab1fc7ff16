"""TOML as operators write it: read safely, and with the line of a field, which its parser tells for bad syntax only."""

import re
import tomllib
from typing import Any

_TABLE = re.compile(r"\s*\[\[?([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w.\- ])+?)\s*=""")
_QUOTES = re.compile(r"""["']|\s*(?=\.)|(?<=\.)\s*""")


def parse(text: str) -> dict[str, Any]:
    """Return the content of a file.

    Raises:
        tomllib.TOMLDecodeError: It is no TOML, or nests deeper than any file of ours.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("Nested too deeply") from None


def line_of(text: str, field: str, *, exactly: bool = False) -> int | None:
    """Return the line, from 1, on which a field such as `labels.one.cup` is set.

    Of a field that is missing or lies within an inline table it is the line of the nearest table or key that holds it,
    unless `exactly` that field is meant; None if there is none. It is a hint for people: text of several lines that
    looks like a key is taken for one.
    """
    table, best, found = "", 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = name = _plain(header[1])
        elif key := _KEY.match(line):
            name = f"{table}.{_plain(key[1])}" if table else _plain(key[1])
        else:
            continue
        if len(name) > best and (field == name or (not exactly and field.startswith(f"{name}."))):
            best, found = len(name), number
    return found


def with_line(text: str, field: str) -> str:
    """Return the field with its line before it, if there is one: "line 5, labels.one.cup"."""
    line = line_of(text, field)
    return f"line {line}, {field}" if line else field


def _plain(name: str) -> str:
    return _QUOTES.sub("", name.strip())
