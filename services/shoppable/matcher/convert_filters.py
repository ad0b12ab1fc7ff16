"""Filters, from the contract's messages to the domain's values; everything that is wrong with them."""

from collections.abc import Iterable, Sequence

from shoppable.matcher.convert import AVAILABILITIES, is_currency_code, read_price
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.names import is_attribute_key
from shoppable.matcher.products import BRAND, Price
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2

# More values than any interface offers, and few enough for Qdrant to plan.
_MAX_FILTER_VALUES = 256
_MAX_FILTERS, _MAX_LEVELS = 64, 4
_MAX_CONTAINED = 200


def read_filter(message: product_catalog_pb2.ProductFilter, field: str, violations: Violations) -> ProductFilter:
    """Return a filter; which attributes there are is checked by `check_attributes`."""
    count, depth = _extent(message, 1)
    small = violations.check(
        count <= _MAX_FILTERS and depth <= _MAX_LEVELS,
        field,
        f"must be at most {_MAX_FILTERS} filters in {_MAX_LEVELS} levels",
    )
    return _read(message, field, violations) if small else ProductFilter()


def _extent(message: product_catalog_pb2.ProductFilter, level: int) -> tuple[int, int]:
    """Return how many filters a filter is, and in how many levels; does not look deeper than is allowed."""
    if level > _MAX_LEVELS:
        return 1, level
    inner = [_extent(part, level + 1) for _, parts in _parts(message) for part in parts[: _MAX_FILTERS + 1]]
    return 1 + sum(count for count, _ in inner), max((depth for _, depth in inner), default=level)


def _parts(
    message: product_catalog_pb2.ProductFilter,
) -> Sequence[tuple[str, Sequence[product_catalog_pb2.ProductFilter]]]:
    return (("any_of", message.any_of), ("all_of", message.all_of), ("none_of", message.none_of))


def _read(message: product_catalog_pb2.ProductFilter, field: str, violations: Violations) -> ProductFilter:
    for part, values in (
        ("categories", message.categories),
        ("brands", message.brands),
        ("availabilities", message.availabilities),
        ("attributes", message.attributes),
        ("attribute_texts", message.attribute_texts),
    ):
        violations.check(
            len(values) <= _MAX_FILTER_VALUES, f"{field}.{part}", f"must have at most {_MAX_FILTER_VALUES} values"
        )
    for number, availability in enumerate(message.availabilities):
        violations.check(
            availability in AVAILABILITIES, f"{field}.availabilities[{number}]", "must be a known availability"
        )
    for number, attribute in enumerate(message.attributes):
        at = f"{field}.attributes[{number}]"
        violations.check(is_attribute_key(attribute.key), f"{at}.key", "must be an attribute's key")
        violations.check(
            1 <= len(attribute.values) <= _MAX_FILTER_VALUES, f"{at}.values", f"must be 1..{_MAX_FILTER_VALUES} values"
        )
    for number, wanted in enumerate(message.attribute_texts):
        at = f"{field}.attribute_texts[{number}]"
        violations.check(is_attribute_key(wanted.key), f"{at}.key", "must be an attribute's key")
        rule = f"must be 1..{_MAX_CONTAINED} characters"
        violations.check(1 <= len(wanted.contains) <= _MAX_CONTAINED, f"{at}.contains", rule)
    inner = {}
    for name, parts in _parts(message):
        for number, nested in enumerate(parts):
            violations.check(nested.ByteSize() > 0, f"{field}.{name}[{number}]", "must have a part that is set")
        inner[name] = tuple(
            _read(nested, f"{field}.{name}[{number}]", violations) for number, nested in enumerate(parts)
        )
    code, low, high = "", None, None
    if message.HasField("price"):
        code, low, high = _read_range(message.price, f"{field}.price", violations)
    return ProductFilter(
        categories=tuple(message.categories),
        brands=tuple(message.brands),
        currency_code=code,
        min_price=low.amount if low else None,
        max_price=high.amount if high else None,
        availabilities=tuple(int(value) for value in message.availabilities),
        attributes=tuple((attribute.key, tuple(attribute.values)) for attribute in message.attributes),
        attribute_texts=tuple((wanted.key, wanted.contains) for wanted in message.attribute_texts),
        any_of=inner["any_of"],
        all_of=inner["all_of"],
        none_of=inner["none_of"],
    )


def check_attributes(wanted: ProductFilter, known: Iterable[str], field: str, violations: Violations) -> None:
    """Note each attribute that a filter asks for and no product of the catalogue has carried."""
    keys = tuple(known)
    for part, asked in (("attributes", wanted.attributes), ("attribute_texts", wanted.attribute_texts)):
        for number, (key, _) in enumerate(asked):
            if key not in keys:
                listed = ", ".join(keys) if keys else "none"
                violations.add(
                    f"{field}.{part}[{number}].key",
                    f"is carried by no product of the catalogue; its attributes are: {listed}",
                )
    for name, parts in (("any_of", wanted.any_of), ("all_of", wanted.all_of), ("none_of", wanted.none_of)):
        for number, inner in enumerate(parts):
            check_attributes(inner, keys, f"{field}.{name}[{number}]", violations)


def check_key(key: str, known: Iterable[str], field: str, violations: Violations) -> None:
    """Note a key that is neither "brand" nor an attribute that a product of the catalogue has carried."""
    keys = (BRAND, *known)
    violations.check(key in keys, field, f"must be one of these keys: {', '.join(keys)}")


def _read_range(
    message: product_catalog_pb2.PriceRange, field: str, violations: Violations
) -> tuple[str, Price | None, Price | None]:
    code = message.currency_code
    if not violations.check(is_currency_code(code), f"{field}.currency_code", "must be three capital letters"):
        return "", None, None
    low, high = (
        read_price(getattr(message, end), f"{field}.{end}", violations, currency_code=code)
        if message.HasField(end)
        else None
        for end in ("min", "max")
    )
    if low and high:
        violations.check(low.amount <= high.amount, f"{field}.max", "must not be less than min")
    return code, low, high
