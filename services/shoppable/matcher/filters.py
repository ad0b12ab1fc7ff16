"""Which products are wanted: once as a rule on products, once as conditions on what the index holds.

`ProductFilter.matches` says what a filter means. `ProductFilter.conditions` says the same in terms of indexed fields,
which the adapters hand to Qdrant; tests hold the two to each other.
"""

from dataclasses import dataclass

from shoppable.matcher.products import Product

# Fields of a point's payload that are indexed.
PRODUCT, ORDINAL, CATEGORY, BRAND, CURRENCY, PRICE, AVAILABILITY = (
    "product",
    "ordinal",  # of the image within its product, from 0
    "category",
    "brand",
    "currency",
    "price",
    "availability",
)
_ATTRIBUTE_PREFIX = "attribute_"


def attribute_field(key: str) -> str:
    """Return the payload's field of an attribute: flat, since a path into a map gives '-' and digits a meaning."""
    return f"{_ATTRIBUTE_PREFIX}{key}"


@dataclass(frozen=True)
class AnyOf:
    """A field that has one of these values."""

    field: str
    values: tuple[str, ...] | tuple[int, ...]

    def listed(self) -> list[str] | list[int]:
        """Return the values as both Qdrants take them."""
        texts = [value for value in self.values if isinstance(value, str)]
        return texts or [value for value in self.values if isinstance(value, int)]


@dataclass(frozen=True)
class Within:
    """A number of low..high, both inclusive; None is no bound."""

    field: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Contains:
    """A text that stands in a field's."""

    field: str
    text: str


@dataclass(frozen=True)
class OneOf:
    """Groups of conditions of which at least one holds whole."""

    groups: tuple[tuple["Condition", ...], ...]


@dataclass(frozen=True)
class NoneOf:
    """Groups of conditions of which none holds whole."""

    groups: tuple[tuple["Condition", ...], ...]


Condition = AnyOf | Within | Contains | OneOf | NoneOf

# Holds of one image of each product: counts and lists products without doubles.
FIRST_IMAGES = AnyOf(ORDINAL, (0,))


@dataclass(frozen=True)
class ProductFilter:
    """Which products are wanted: all parts that are not empty must hold."""

    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    currency_code: str = ""
    min_price: float | None = None
    max_price: float | None = None
    availabilities: tuple[int, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    attribute_texts: tuple[tuple[str, str], ...] = ()
    any_of: tuple["ProductFilter", ...] = ()
    all_of: tuple["ProductFilter", ...] = ()
    none_of: tuple["ProductFilter", ...] = ()

    def matches(self, product: Product) -> bool:
        """Tell whether a product is wanted."""
        attributes = product.attributes or {}
        return (
            (not self.categories or product.category in self.categories)
            and (not self.brands or product.brand in self.brands)
            and (not self.availabilities or product.availability in self.availabilities)
            and self._price_matches(product)
            and all(attributes.get(key) in values for key, values in self.attributes)
            and all(text in attributes.get(key, "") for key, text in self.attribute_texts)
            and (not self.any_of or any(part.matches(product) for part in self.any_of))
            and all(part.matches(product) for part in self.all_of)
            and not any(part.matches(product) for part in self.none_of)
        )

    def _price_matches(self, product: Product) -> bool:
        if not self.currency_code:
            return True
        price = product.price
        return (
            price is not None
            and price.currency_code == self.currency_code
            and (self.min_price is None or price.amount >= self.min_price)
            and (self.max_price is None or price.amount <= self.max_price)
        )

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that must all hold; none for a filter that wants every product."""
        found: list[Condition] = []
        if self.categories:
            found.append(AnyOf(CATEGORY, self.categories))
        if self.brands:
            found.append(AnyOf(BRAND, self.brands))
        if self.currency_code:
            found.append(AnyOf(CURRENCY, (self.currency_code,)))
            if self.min_price is not None or self.max_price is not None:
                found.append(Within(PRICE, self.min_price, self.max_price))
        if self.availabilities:
            found.append(AnyOf(AVAILABILITY, self.availabilities))
        found.extend(AnyOf(attribute_field(key), values) for key, values in self.attributes)
        found.extend(Contains(attribute_field(key), text) for key, text in self.attribute_texts)
        for part in self.all_of:
            found.extend(part.conditions())
        if self.any_of:
            found.append(OneOf(tuple(part.conditions() for part in self.any_of)))
        if self.none_of:
            found.append(NoneOf(tuple(part.conditions() for part in self.none_of)))
        return tuple(found)

    def canonical(self) -> str:
        """Return a text that is equal for filters that mean the same; for page tokens."""
        return repr(
            (
                sorted(set(self.categories)),
                sorted(set(self.brands)),
                self.currency_code,
                self.min_price,
                self.max_price,
                sorted(set(self.availabilities)),
                sorted((key, sorted(set(values))) for key, values in self.attributes),
                sorted(set(self.attribute_texts)),
                *(sorted({part.canonical() for part in parts}) for parts in (self.any_of, self.all_of, self.none_of)),
            )
        )
