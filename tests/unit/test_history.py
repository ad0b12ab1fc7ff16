"""The checker of histories accepts what could have happened and finds what could not."""

import math
import random

import pytest

from faults.history import Operation, is_linearizable


def write(value: int | None, start: float, end: float = math.inf) -> Operation:
    return Operation(True, value, start, end)


def read(value: int | None, start: float, end: float) -> Operation:
    return Operation(False, value, start, end)


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([], "nothing"),
        ([write(1, 0, 1), read(1, 2, 3)], "one after the other"),
        ([write(1, 0, 5), read(None, 1, 2), read(1, 3, 4)], "a read before and one after a write that was under way"),
        ([write(1, 0, 9), write(2, 0, 9), read(2, 1, 3), read(1, 4, 5)], "two writes at a time, in either order"),
        ([write(1, 0), read(None, 5, 6), read(1, 7, 8)], "an unanswered write that came late"),
        ([write(1, 0), read(None, 5, 6)], "an unanswered write that never came"),
        ([write(1, 0, 1), write(None, 2, 3), read(None, 4, 5)], "a delete"),
    ],
)
def test_what_could_have_happened_is_accepted(operations: list[Operation], why: str):
    assert is_linearizable(operations, None), why


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([write(1, 0, 1), read(None, 2, 3)], "an answered write is lost"),
        ([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], "a stale read"),
        ([write(1, 0, 9), read(1, 1, 2), read(None, 3, 4)], "a value seen and gone again"),
        ([read(7, 0, 1)], "a value that nobody wrote"),
        ([write(1, 0, 1), write(None, 2, 3), read(1, 4, 5)], "a deleted product is back"),
        ([write(1, 0), read(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)], "one write took effect twice"),
    ],
)
def test_what_could_not_have_happened_is_found(operations: list[Operation], why: str):
    assert not is_linearizable(operations, None), why


@pytest.mark.parametrize("seed", range(20))
def test_histories_of_a_true_register_are_accepted_and_a_changed_read_is_found(seed: int):
    chance = random.Random(seed)
    operations, state, now = [], None, 0.0
    for value in range(60):
        moment = now = now + chance.random()
        start, end = moment - 2 * chance.random(), moment + 2 * chance.random()
        if chance.random() < 0.5:
            state = value
            operations.append(write(value, start, end))
        else:
            operations.append(read(state, start, end))
    assert is_linearizable(operations, None)
    changed = next(index for index, one in reversed(list(enumerate(operations))) if not one.write)
    operations[changed] = read(-1, operations[changed].start, operations[changed].end)
    assert not is_linearizable(operations, None)
