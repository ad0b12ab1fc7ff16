"""Several things in work at once, within bounds, and none left over when the one who waits gives up."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def all_of(*work: Coroutine[Any, Any, R]) -> list[R]:
    """Do all at once and return all results; if one fails, cancel the others and raise its error."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def in_order(
    items: AsyncIterator[T], work: Callable[[T], Coroutine[Any, Any, R]], *, limit: int
) -> AsyncGenerator[R, None]:
    """Do `work` on items as they come, up to `limit` at a time, and yield the results in the items' order.

    An item counts from before it is taken until its result has been dealt with, that is, until the user of this
    generator asks for the next one. So a slow source, slow work and a slow user all hold back the others, and no more
    than `limit` items exist at any time. Closing the generator cancels the work.

    Raises:
        Exception: The first error of the work or of `items`, after the results that came before it.
    """
    slots = asyncio.Semaphore(limit)
    started: asyncio.Queue[asyncio.Task[R] | None] = asyncio.Queue()  # bounded by the slots
    unfinished: set[asyncio.Task[R]] = set()

    async def read() -> None:
        try:
            while True:
                await slots.acquire()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                task = asyncio.create_task(work(item))
                unfinished.add(task)
                task.add_done_callback(unfinished.discard)
                started.put_nowait(task)
        finally:
            started.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await started.get()) is not None:
            yield await task
            slots.release()
        await reader
    finally:
        await _cancel([reader, *unfinished])


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended; what they end with does not matter any more."""
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
