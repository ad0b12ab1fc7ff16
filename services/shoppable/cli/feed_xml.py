"""Feeds in XML: the items of an RSS 2.0 channel, or the entries of an Atom feed, with fields as Google names them.

Nothing is built but the item at hand. A document with a DTD is refused, and with it every entity that could grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from shoppable.cli.feed_names import FieldNames
from shoppable.cli.feed_rows import FeedError, RawRow

_CHUNK_BYTES = 1 << 16
_ITEM_BYTES = 1 << 20
_DEPTH = 32
_ITEMS = frozenset({"item", "entry"})


def xml_rows(file: IO[bytes], _names: FieldNames) -> Iterator[RawRow]:
    """Yield the items of a feed; a field that is repeated comes as a list.

    Raises:
        FeedError: It is no XML, has a DTD, or is nested or long beyond reason.
    """
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser
    except ImportError as error:
        raise FeedError("XML needs one more package: pip install 'shoppable[cli]'") from error
    items = _Items()
    parser: Any = DefusedXMLParser(target=items, forbid_dtd=True)
    items.parser = parser.parser
    try:
        while chunk := file.read(_CHUNK_BYTES):
            parser.feed(chunk)
            yield from items.take()
        parser.close()
        yield from items.take()
    except DefusedXmlException as error:
        raise FeedError("the feed has a DTD, which is refused") from error
    except (ParseError, ValueError, LookupError) as error:
        raise FeedError(f"the feed is not XML that can be read: {error}") from error


class _Items:
    """What the parser calls: gathers the fields of one item at a time."""

    def __init__(self) -> None:
        self.parser: Any = None
        self._found: list[RawRow] = []
        self._depth = 0
        self._item_depth = 0  # 0: outside of an item
        self._line = 0
        self._size = 0
        self._text: list[str] = []
        self._content: dict[str, object] = {}

    def take(self) -> list[RawRow]:
        """Return the items that were completed since."""
        found, self._found = self._found, []
        return found

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Enter an element."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise FeedError(f"the feed is nested more than {_DEPTH} deep")
        if not self._item_depth and _name(tag) in _ITEMS:
            self._item_depth, self._line, self._size = self._depth, self.parser.CurrentLineNumber, 0
            self._content = {}
        elif self._depth == self._item_depth + 1:
            # Atom's links have their address as an attribute.
            self._text = [attributes["href"]] if "href" in attributes else []

    def data(self, text: str) -> None:
        """Read some text."""
        if not self._item_depth:
            return
        self._size += len(text)
        if self._size > _ITEM_BYTES:
            raise FeedError(f"the item of line {self._line} is longer than {_ITEM_BYTES} characters")
        if self._depth == self._item_depth + 1:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """Leave an element."""
        if self._item_depth and self._depth == self._item_depth:
            self._found.append(RawRow(self._line, self._content))
            self._item_depth = 0
        elif self._item_depth and self._depth == self._item_depth + 1:
            self._keep(_name(tag), "".join(self._text).strip())
        self._depth -= 1

    def close(self) -> None:
        """End the document."""

    def _keep(self, name: str, value: str) -> None:
        if not value:
            return
        known = self._content.get(name)
        if known is None:
            self._content[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            self._content[name] = [known, value]


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]
