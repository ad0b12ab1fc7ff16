"""A search for duplicates, from the contract's messages to the domain's values and back."""

from collections.abc import Sequence

from shoppable.matcher.convert import product_to_message
from shoppable.matcher.duplicates import BRAND, Likeness
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2 as messages


def check_differing_in(key: str, attribute_keys: Sequence[str], violations: Violations) -> None:
    """Note a key that no product of the catalogue has carried."""
    known = ", ".join((BRAND, *attribute_keys))
    violations.check(
        key in ("", BRAND, *attribute_keys), "differing_in", f"must be unset or one of these keys: {known}"
    )


def likeness_to_message(catalog_id: str, likeness: Likeness) -> messages.FindDuplicatesResponse:
    """Return two pictures that are nearly the same."""
    first, second = (
        messages.ProductImage(product=product_to_message(catalog_id, product), image_id=image_id)
        for product, image_id in (likeness.first, likeness.second)
    )
    return messages.FindDuplicatesResponse(first=first, second=second, similarity=likeness.similarity)
