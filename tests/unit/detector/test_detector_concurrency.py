"""Order, bounds and cancellation of work on a stream, without any network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shoppable.detector.concurrency import all_of, in_order


class Source:
    """Counts how many items were taken from it."""

    def __init__(self, count: int, *, error: Exception | None = None) -> None:
        self.taken = 0
        self._count = count
        self._error = error

    async def items(self) -> AsyncIterator[int]:
        for number in range(self._count):
            self.taken += 1
            yield number
        if self._error:
            raise self._error


async def settle() -> None:
    """Let everything that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_results_come_in_order_when_the_first_is_the_last_to_finish() -> None:
    finished: list[int] = []
    others_done = asyncio.Event()

    async def work(number: int) -> int:
        if number == 0:
            await others_done.wait()
        finished.append(number)
        if len(finished) == 3:
            others_done.set()
        return number

    async with contextlib.aclosing(in_order(Source(6).items(), work, limit=4)) as results:
        assert [number async for number in results] == list(range(6))
    assert finished[:4] == [1, 2, 3, 0]


async def test_no_more_items_than_the_limit_exist_while_the_user_is_slow() -> None:
    source = Source(100)

    async def work(number: int) -> int:
        return number

    async with contextlib.aclosing(in_order(source.items(), work, limit=4)) as results:
        for number in range(10):
            assert await anext(results) == number
            await settle()
            # The one that the user holds and three behind it.
            assert source.taken == number + 4


async def test_limit_is_reached_and_not_passed() -> None:
    in_work = most = 0

    async def work(number: int) -> int:
        nonlocal in_work, most
        in_work += 1
        most = max(most, in_work)
        await settle()
        in_work -= 1
        return number

    async with contextlib.aclosing(in_order(Source(20).items(), work, limit=5)) as results:
        assert len([number async for number in results]) == 20
    assert most == 5


async def test_error_of_the_source_comes_after_the_results_before_it() -> None:
    async def work(number: int) -> int:
        await settle()
        return number

    results = in_order(Source(3, error=ValueError("broken")).items(), work, limit=8)
    assert [await anext(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        await anext(results)


async def test_error_of_the_work_ends_it_and_cancels_the_rest() -> None:
    cancelled = []

    async def work(number: int) -> int:
        if number == 1:
            raise ValueError("broken")
        if number > 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(number)
        return number

    results = in_order(Source(10).items(), work, limit=4)
    assert await anext(results) == 0
    with pytest.raises(ValueError, match="broken"):
        await anext(results)
    # Number 4 may have been taken when 0 was done with.
    assert sorted(cancelled) in ([2, 3], [2, 3, 4])


async def test_closing_cancels_all_work_and_the_reading() -> None:
    started, cancelled = [], []

    async def work(number: int) -> int:
        started.append(number)
        if number:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(number)
        return number

    before = asyncio.all_tasks()
    results = in_order(Source(100).items(), work, limit=3)
    assert await anext(results) == 0
    await settle()
    await results.aclose()

    assert sorted(cancelled) == started[1:]
    assert asyncio.all_tasks() == before


async def test_all_of_cancels_the_others_when_one_fails() -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fail() -> None:
        await settle()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await all_of(wait(), fail())
    assert cancelled.is_set()
