"""Work in another thread, a bounded number of items ahead."""

import threading
import time

import pytest

from shoppable.decoder.ahead import Ahead


def test_items_come_in_order():
    assert list(Ahead(range(100), size=2)) == list(range(100))


def test_no_more_than_the_limit_is_made_ahead():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    taken = iter(Ahead(items(), size=3))
    assert next(taken) == 0
    ends = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < ends:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(made) == 5  # one is taken, three wait, and one is in the thread's hands
    assert list(taken) == list(range(1, 50))


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("gone")

    taken = iter(Ahead(items(), size=2))
    assert next(taken) == 1
    with pytest.raises(OSError, match="gone"):
        next(taken)


def test_the_work_is_done_in_another_thread():
    (there,) = Ahead((threading.get_ident() for _ in range(1)), size=1)
    assert there != threading.get_ident()
