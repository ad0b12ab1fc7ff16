"""What feeds call their fields: our names, those of the Google Merchant, Meta and OpenAI feeds, and an operator's own.

A row with `product_id` speaks our names, and then every name must be one of them: a misspelt one would lose data. A row
with `id` or `item_id` speaks the shop feeds' names; such feeds carry much that is not for us, which is left out and
collected in `ignored`. A mapping file renames fields first, and whatever it does not name is read as a shop feed's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from shoppable.cli import feed_fields
from shoppable.cli.feed_rows import FeedError, Problem, RawRow
from shoppable.runtime import toml

ATTRIBUTE_PREFIX = "attr."
_OURS = frozenset({*feed_fields.FIELDS, "currency"})
_IDS = ("id", "item_id")
# The first of these that a row has counts.
_SAME: Mapping[str, Sequence[str]] = {
    "product_id": ("product_id", *_IDS),
    "title": ("title",),
    "description": ("description",),
    "brand": ("brand",),
    "category": ("category", "google_product_category", "fb_product_category", "product_category", "product_type"),
    "url": ("url", "link", "canonical_link"),
    "availability": ("availability",),
}
_FIRST_IMAGES = ("image_link", "image_url", "images")
_MORE_IMAGES = ("additional_image_link", "additional_image_links", "additional_image_url", "additional_image_urls")
_NUMBERED_IMAGE = re.compile(r"image\[(\d{1,3})\]\.url")
_PRICES = ("price", "sale_price", "sale_price_effective_date", "currency")
# Said by their own names, as attributes.
_ATTRIBUTES = (
    "age_group", "color", "condition", "gender", "gtin", "group_id", "item_group_id", "material", "mpn", "pattern",
    "size", "size_system", "size_type",
)  # fmt: skip
_SELLERS = ("seller", "seller_name", "marketplace_seller", "vendor")
_KNOWN = frozenset(
    {*(name for names in _SAME.values() for name in names), *_FIRST_IMAGES, *_MORE_IMAGES, *_PRICES, *_ATTRIBUTES}
    | {*_SELLERS, "attributes"}
)
_MOST_IGNORED = 1000  # a hostile feed could have a new name in each row


class FieldNames:
    """How to read the names of one feed."""

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        """Make it.

        Args:
            mapping: Our name for each of the feed's that it tells; `attr.KEY` makes an attribute, "" leaves it out.
        """
        self._mapping = mapping
        self.ignored: set[str] = set()

    @classmethod
    def from_file(cls, path: Path) -> FieldNames:
        """Read a mapping file: TOML with a table `fields`, the feed's names to ours.

        Raises:
            FeedError: It is none, or maps to a name that we do not have.
            OSError: It cannot be read.
        """
        try:
            fields = toml.parse(path.read_text("utf-8")).get("fields")
        except ValueError as error:
            raise FeedError(f"{path} is not TOML: {error}") from error
        if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields.values()):
            raise FeedError(f'{path} needs a table [fields] of texts, such as: sku = "product_id"')
        if unknown := [name for name in fields.values() if name and not _is_ours(name)]:
            raise FeedError(
                f'{path} maps to {unknown[0]!r}; fields are {", ".join(sorted(_OURS))}, {ATTRIBUTE_PREFIX}KEY and ""'
            )
        return cls(fields)

    def check_header(self, header: Sequence[str]) -> None:
        """Refuse a table whose header cannot be right.

        Raises:
            FeedError: With what is wrong.
        """
        ours = {name for original in header for name in self._renamed(original)}
        if not self._is_ours(ours):
            return
        if unknown := [name for name in header if not _is_ours(name)]:
            raise FeedError(
                f"the header names an unknown column: {unknown[0]!r}; columns are {', '.join(sorted(_OURS))} and attr.*"
            )
        if missing := [name for name in ("product_id", "title", "images") if name not in header]:
            raise FeedError(f"the header lacks the column {missing[0]!r}")

    def ours(self, row: RawRow) -> tuple[Mapping[str, object], Sequence[Problem]]:
        """Return a row's values by our names, and all that is wrong with it so far."""
        content: dict[str, object] = {}
        for original, value in row.content.items():
            for name in self._renamed(original):
                content.setdefault(name, value)
        problems = list(row.problems)
        if not self._is_ours(content):
            content = self._of_shop(content, problems)
        _join_currency(content)
        return content, problems

    def _is_ours(self, names: Collection[str]) -> bool:
        return self._mapping is None and ("product_id" in names or not any(_plain(name) in _IDS for name in names))

    def _renamed(self, original: str) -> Sequence[str]:
        if self._mapping is None or original not in self._mapping:
            return (original,)
        return (self._mapping[original],) if self._mapping[original] else ()

    def _of_shop(self, theirs: Mapping[str, object], problems: list[Problem]) -> dict[str, object]:
        values = {name if _is_ours(name) else _plain(name): value for name, value in theirs.items()}
        values = {name: value for name, value in values.items() if value is not None and value not in ("", [])}
        content: dict[str, object] = {}
        for name, candidates in _SAME.items():
            found = [values[candidate] for candidate in candidates if candidate in values]
            if found:
                content[name] = _one_text(found[0])
        if images := _images(values):
            content["images"] = images
        attributes = _attributes(values, problems)
        content |= _prices(values, attributes)
        if attributes:
            content["attributes"] = attributes
        strange = {name for name in values if not self._means_something(name)}
        self.ignored |= set(sorted(strange)[: max(0, _MOST_IGNORED - len(self.ignored))])
        return content

    def _means_something(self, name: str) -> bool:
        return name in _KNOWN or _is_ours(name) or _NUMBERED_IMAGE.fullmatch(name) is not None


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith(ATTRIBUTE_PREFIX)


def _plain(name: str) -> str:
    """Return a shop feed's name as its specification writes it: `g:image link` is `image_link`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower().removeprefix("g:"))


def _one_text(value: object) -> object:
    """Return a value as a text where that loses nothing; feeds write ids as numbers, and descriptions as objects."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, dict) and isinstance(value.get("plain"), str):
        return value["plain"]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return value[0]  # what XML repeats
    return value


def _images(values: Mapping[str, object]) -> object:
    found: list[object] = []
    for name in _FIRST_IMAGES:
        found += _listed(values.get(name), split=False)
    numbered = {int(match[1]): value for name, value in values.items() if (match := _NUMBERED_IMAGE.fullmatch(name))}
    found += [numbered[number] for number in sorted(numbered)]
    for name in _MORE_IMAGES:
        found += _listed(values.get(name), split=True)
    unique: list[object] = []
    for one in found:
        if one not in unique:
            unique.append(one)
    return unique


def _listed(value: object, *, split: bool) -> list[object]:
    """Return a value as a list. Further pictures stand in one cell, separated by commas; a comma of a URL is %2C."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if split and isinstance(value, str):
        return [part.strip() for part in re.split(r",(?=\s*(?:https?://|[^\s,]))", value) if part.strip()]
    return [value]


def _attributes(values: Mapping[str, object], problems: list[Problem]) -> dict[str, object]:
    given = values.get("attributes", {})
    if not isinstance(given, dict):
        problems.append(Problem("attributes", "must be an object of texts"))
        given = {}
    found: dict[str, object] = dict(given)
    for name in _ATTRIBUTES:
        if name in values:
            found.setdefault(name, _one_text(values[name]))
    sellers = [values[name] for name in _SELLERS if name in values]
    if sellers:
        found.setdefault("seller", _one_text(sellers[0]))
    for name, value in values.items():
        if name.startswith(ATTRIBUTE_PREFIX):
            found[name.removeprefix(ATTRIBUTE_PREFIX)] = _one_text(value)
    return found


def _prices(values: Mapping[str, object], attributes: dict[str, object]) -> dict[str, object]:
    """Return what one pays; the price before a sale is kept as an attribute.

    A sale that is limited in time is left to the feed that says that it is on: our prices have no calendar.
    """
    found = {name: _one_text(values[name]) for name in ("price", "currency") if name in values}
    sale = values.get("sale_price")
    if sale is not None and "sale_price_effective_date" not in values:
        if isinstance(before := found.get("price"), str):
            attributes.setdefault("regular_price", before)
        found["price"] = _one_text(sale)
    return found


def _join_currency(content: dict[str, object]) -> None:
    """Put the currency of a column of its own behind the amount."""
    currency = content.pop("currency", None)
    if isinstance(currency, str) and currency.strip():
        price = content.get("price", "?")
        if isinstance(price, dict):
            return
        content["price"] = f"{feed_fields.plain_number(price)} {currency.strip()}"
