"""Runs an iterator in a thread of its own, a bounded number of items ahead of who takes them.

FFmpeg works without Python's lock: so a film's next frame is decoded while the last one is made into a picture, and one
film alone is served in less time than both take.
"""

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _End:
    """Comes after the last item."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[T]):
    """The items of another iterable. To be iterated over once, to its end: nothing else ends the thread."""

    def __init__(self, items: Iterable[T], *, size: int) -> None:
        """At most `size` items wait, and one more is held by the thread."""
        self._items = items
        self._waiting: SimpleQueue[T | _End] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._room.put(None)

    def __iter__(self) -> Iterator[T]:
        """Yield the items, and raise at last what they end with.

        Raises:
            MemoryError: There is no room for another thread.
        """
        try:
            threading.Thread(target=self._work, name="ahead", daemon=True).start()
        except RuntimeError as error:  # no room for its stack
            raise MemoryError from error
        while not isinstance(item := self._waiting.get(), _End):
            self._room.put(None)
            yield item
        if item.error is not None:
            raise item.error

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                self._room.get()
                self._waiting.put(item)
        except BaseException as raised:  # whoever takes the items gets it
            error = raised
        self._waiting.put(_End(error))
