"""Tests of each kind of one thing with each kind of another."""

from collections.abc import Collection

import pytest


def pairs(first: Collection[object], second: Collection[object]) -> list[object]:
    """Return all pairs as parameters. Those that are not marked exhaustive have each value at least once."""
    found: list[object] = []
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            chosen = (row - column) % min(len(first), len(second)) == 0
            found.append(pytest.param(one, other, marks=() if chosen else pytest.mark.exhaustive))
    return found
