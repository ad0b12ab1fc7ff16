"""The words of a product, and of those who look for it, made comparable.

Qdrant's text index splits at what is neither letter nor digit, and does not mind capitals. Accents are taken off here,
on both sides, so that both kinds of Qdrant find "café" by "cafe".
"""

import unicodedata

from shoppable.matcher.products import Product


def text_of(product: Product) -> str:
    """Return what is searched of a product: its title, brand and description."""
    return folded("\n".join(part for part in (product.title, product.brand, product.description) if part))


def folded(text: str) -> str:
    """Return a text in small letters without accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", "".join(part for part in parts if not unicodedata.combining(part)))


def has_words(text: str) -> bool:
    """Tell whether a text holds anything that can be searched for."""
    return any(letter.isalnum() for letter in folded(text))
