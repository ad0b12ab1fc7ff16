"""The fields of a feed's row: how a value of JSON or CSV becomes one of a product."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from shoppable.v1 import product_catalog_pb2 as pb

_NANOS = 10**9
_INT64 = 2**63
_AMOUNT = r"[0-9]{1,18}(?:\.[0-9]{1,9})?|[0-9]{1,3}(?:,[0-9]{3}){1,5}\.[0-9]{1,9}"
_PRICE = re.compile(
    rf"(?P<amount>{_AMOUNT})\s*(?P<code>[A-Za-z]{{3}})|(?P<code_first>[A-Za-z]{{3}})\s+(?P<amount_last>{_AMOUNT})"
)


class FieldError(ValueError):
    """A value cannot be what its field needs."""


def text(value: object) -> str:
    """Return a text that a message can carry."""
    if not isinstance(value, str):
        raise FieldError("must be a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FieldError("is not UTF-8") from error
    return value


def images(value: object) -> tuple[str, ...]:
    """Return references of pictures, at least one."""
    if not isinstance(value, list) or not value:
        raise FieldError("must be a list of paths or https URLs, with at least one")
    references = tuple(text(item) for item in value)
    if not all(references):
        raise FieldError("names an empty path")
    return references


def plain_number(value: object) -> object:
    """Return a number in plain digits, exactly; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return value
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def fill(product: pb.Product, name: str, value: object) -> None:
    """Set the field of a product that a row calls `name`.

    Raises:
        FieldError: There is no such field, or the value does not fit.
    """
    setter = FIELDS.get(name)
    if setter is None:
        raise FieldError(f"is unknown; fields are {', '.join(sorted(FIELDS))}")
    setter(product, value)


def _price(product: pb.Product, value: object) -> None:
    if isinstance(value, dict):
        _price_parts(product, value)
        return
    match = _PRICE.fullmatch(text(value).strip())
    if match is None:
        raise FieldError('must be an amount and a currency, such as "16.50 EUR"')
    try:
        amount = Decimal((match["amount"] or match["amount_last"]).replace(",", ""))
    except InvalidOperation as error:  # pragma: no cover  # the pattern leaves nothing to fail
        raise FieldError("is no number") from error
    units = int(amount)
    product.price.currency_code = (match["code"] or match["code_first"]).upper()
    product.price.units = units
    product.price.nanos = int((amount - units) * _NANOS)


def _price_parts(product: pb.Product, value: Mapping[object, object]) -> None:
    if unknown := value.keys() - {"currency_code", "units", "nanos"}:
        raise FieldError(f"has an unknown part {min(map(str, unknown))!r}; parts are currency_code, units and nanos")
    units, nanos = value.get("units", 0), value.get("nanos", 0)
    if isinstance(units, str) and re.fullmatch(r"-?[0-9]{1,19}", units):  # as protobuf's JSON writes it
        units = int(units)
    for name, number, limit in (("units", units, _INT64), ("nanos", nanos, _NANOS)):
        if type(number) is not int or not -limit < number < limit:
            raise FieldError(f"needs {name} to be a whole number within range")
    assert isinstance(units, int)  # noqa: S101 -- checked above
    assert isinstance(nanos, int)  # noqa: S101 -- checked above
    product.price.currency_code = text(value.get("currency_code", ""))
    product.price.units = units
    product.price.nanos = nanos


def _availability(product: pb.Product, value: object) -> None:
    name = re.sub(r"[\s-]+", "_", text(value).strip()).upper().removeprefix("AVAILABILITY_")
    known = {key.removeprefix("AVAILABILITY_"): number for key, number in pb.Availability.items()}
    known.pop("UNSPECIFIED")
    # As shop feeds say it.
    known |= {"PRE_ORDER": known["PREORDER"], "AVAILABLE_FOR_ORDER": known["BACKORDER"]}
    if name not in known:
        raise FieldError(f"must be one of {', '.join(sorted(key.lower() for key in known))}")
    product.availability = known[name]


def _attributes(product: pb.Product, value: object) -> None:
    if not isinstance(value, dict):
        raise FieldError("must be an object of texts")
    for key, item in value.items():
        try:
            product.attributes[text(key)] = text(item)
        except FieldError as error:
            raise FieldError(f"{key!a} {error}") from error


def _set(field: str) -> Callable[[pb.Product, object], None]:
    def setter(product: pb.Product, value: object) -> None:
        setattr(product, field, text(value))

    return setter


def _apart(_product: pb.Product, _value: object) -> None:
    raise AssertionError("is read apart")


# Every field of a row. A null is not an absent value: it says that the feed's writer lost something.
FIELDS: Mapping[str, Callable[[pb.Product, object], None]] = {
    "product_id": _apart,
    "title": _set("title"),
    "description": _set("description"),
    "brand": _set("brand"),
    "category": _set("category"),
    "price": _price,
    "url": _set("uri"),
    "availability": _availability,
    "images": _apart,
    "attributes": _attributes,
}
