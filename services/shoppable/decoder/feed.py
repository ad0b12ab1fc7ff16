"""Runs blocking work in threads, a bounded number of items ahead of an asynchronous reader."""

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Generator
from concurrent.futures import Executor
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """The items of a blocking generator, for one asynchronous reader.

    A thread works only while fewer than `ahead` items wait: a slow reader holds no thread, and no more than `ahead`
    items plus the one that it is given. After `slice_s` the thread turns to whatever else the executor has to do, so
    that more videos than threads share them evenly. The generator yields None where it may be interrupted.
    """

    def __init__(
        self,
        items: Generator[T | None, None, None],
        executor: Executor,
        *,
        ahead: int,
        stop: threading.Event,
        slice_s: float = 0.05,
    ) -> None:
        """Nothing is worked on until the first item is asked for. `stop` is set when no more items are wanted."""
        self._items = items
        self._executor = executor
        self._ahead = ahead
        self._slice_s = slice_s
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # the call's, for logs
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque()
        self._working = False
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next item, or raise what the generator raised after its last one."""
        while True:
            with self._lock:
                if self._waiting:
                    item = self._waiting.popleft()
                    self._start_work()
                    return item
                if self._error is not None:
                    raise self._error
                if self._ended:
                    raise StopAsyncIteration
                self._start_work()
                self._changed.clear()
            await self._changed.wait()

    def fail(self, error: BaseException) -> None:
        """End the reader with an error, ahead of all items that wait."""
        with self._lock:
            self._error = error
            self._waiting.clear()
            self._ended = True
        self._stop.set()
        self._changed.set()

    async def aclose(self) -> None:
        """Stop the work, wait until its thread has let go, and close the generator."""
        self._stop.set()
        with self._lock:
            self._ended = True
            self._waiting.clear()
        while self._working:
            self._changed.clear()
            if self._working:
                await self._changed.wait()
        await self._loop.run_in_executor(self._executor, self._items.close)

    def _start_work(self) -> None:
        """Put a thread to work if there is need; the lock is held."""
        if not self._working and not self._ended and len(self._waiting) < self._ahead:
            self._working = True
            self._submit()

    def _submit(self) -> None:
        # A context can be entered once at a time, and the last thread may still be on its way out.
        self._executor.submit(self._context.copy().run, self._work)

    def _work(self) -> None:
        until = time.monotonic() + self._slice_s
        while True:
            item: T | None = None
            error: BaseException | None = None
            ended = False
            try:
                item = next(self._items)
            except StopIteration:
                ended = True
            except BaseException as raised:  # the reader gets whatever it is
                error = raised
            with self._lock:
                if item is not None and not self._ended:
                    self._waiting.append(item)
                if (error is not None or ended) and not self._ended:
                    self._error, self._ended = error, True
                done = self._ended or len(self._waiting) >= self._ahead
                if done:
                    self._working = False
            if done or item is not None:
                self._loop.call_soon_threadsafe(self._changed.set)
            if done:
                return
            if time.monotonic() > until:
                self._submit()
                return
