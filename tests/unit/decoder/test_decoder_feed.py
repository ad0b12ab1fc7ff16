"""Work in threads, a bounded number of items ahead."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from shoppable.decoder.feed import Feed


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def idle(feed: Feed[int]) -> None:
    """Wait until the feed's thread has let go."""
    async with asyncio.timeout(5):
        while feed._working:
            await asyncio.sleep(0.001)


async def test_items_come_in_order_without_the_pauses(executor):
    items = (number if number % 3 else None for number in range(100))
    feed = Feed(items, executor, ahead=3, stop=threading.Event(), slice_s=0)
    assert [item async for item in feed] == [number for number in range(100) if number % 3]
    await feed.aclose()


async def test_no_more_than_the_limit_is_made_ahead_and_no_thread_is_held(executor):
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    feed = Feed(items(), executor, ahead=4, stop=threading.Event())
    assert await anext(feed) == 0
    await idle(feed)
    assert len(made) <= 5
    assert await asyncio.get_running_loop().run_in_executor(executor, lambda: "free") == "free"
    assert [item async for item in feed] == list(range(1, 50))


async def test_an_error_comes_after_the_items_before_it_and_again(executor):
    def items():
        yield 1
        raise OSError("gone")

    feed = Feed(items(), executor, ahead=3, stop=threading.Event())
    assert await anext(feed) == 1
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            await anext(feed)
    await feed.aclose()


async def test_a_failure_from_outside_comes_ahead_of_what_waits(executor):
    stop = threading.Event()
    feed = Feed(iter_forever(), executor, ahead=3, stop=stop)
    await anext(feed)
    feed.fail(ValueError("refused"))
    with pytest.raises(ValueError, match="refused"):
        await anext(feed)
    assert stop.is_set()
    await feed.aclose()


async def test_closing_stops_the_work_and_cleans_up_once_its_thread_has_let_go(executor):
    closed = []

    def items():
        try:
            yield from iter_forever()
        finally:
            closed.append(threading.current_thread())

    stop = threading.Event()
    feed = Feed(items(), executor, ahead=3, stop=stop)
    await anext(feed)
    await feed.aclose()
    assert stop.is_set()
    assert len(closed) == 1
    assert closed[0] is not threading.current_thread()
    await feed.aclose()


def iter_forever():
    number = 0
    while True:
        yield number
        number += 1
