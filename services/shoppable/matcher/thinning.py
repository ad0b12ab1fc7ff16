"""Leaving products out of a ranked list for the sake of others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shoppable.matcher.products import Product


class Ranked(Protocol):
    """What stands in a list of products."""

    @property
    def product(self) -> Product:
        """The product."""


T = TypeVar("T", bound=Ranked)


@dataclass(frozen=True)
class Diversity:
    """How many products of a list may say the same of themselves."""

    key: str
    most: int

    def thin(self, ranked: Sequence[T]) -> list[T]:
        """Return the list without those that say what enough before them have said."""
        counts: Counter[str] = Counter()
        kept = []
        for one in ranked:
            value = one.product.said_of(self.key)
            counts[value] += 1
            if not value or counts[value] <= self.most:
                kept.append(one)
        return kept
