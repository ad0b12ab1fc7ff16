"""A search for duplicates, from the contract's messages to the domain's values and back."""

from shoppable.matcher.convert import product_to_message
from shoppable.matcher.duplicates import Likeness
from shoppable.v1 import product_catalog_pb2 as messages


def likeness_to_message(catalog_id: str, likeness: Likeness) -> messages.FindDuplicatesResponse:
    """Return two pictures that are nearly the same."""
    first, second = (
        messages.ProductImage(product=product_to_message(catalog_id, product), image_id=image_id)
        for product, image_id in (likeness.first, likeness.second)
    )
    return messages.FindDuplicatesResponse(first=first, second=second, similarity=likeness.similarity)
