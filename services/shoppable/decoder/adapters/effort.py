"""Bounds the work that a video may cost without giving a frame: some files are all search and no find."""

import time
from types import TracebackType
from typing import Self

from shoppable.decoder.faults import WORK_LIMIT, RefusedError


class Effort:
    """Counts the seconds of CPU since the last frame, inside `with` blocks, each of which is one thread's.

    Waiting for a reader, a disk or a thread does not count.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._spent_s = 0.0
        self._since_s: float | None = None

    def __enter__(self) -> Self:
        self._since_s = time.thread_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._since_s is not None:
            self._spent_s += time.thread_time() - self._since_s
        self._since_s = None
        if kind is None:
            self.check()

    def rewarded(self) -> None:
        """Begin to count anew: there is a frame."""
        self._spent_s = 0.0
        if self._since_s is not None:
            self._since_s = time.thread_time()

    def check(self) -> None:
        """Refuse the video if it has cost too much.

        Raises:
            RefusedError: It has.
        """
        running_s = 0.0 if self._since_s is None else time.thread_time() - self._since_s
        spent_s = self._spent_s + running_s
        if spent_s > self._limit_s:
            raise RefusedError(
                f"must give a frame for each {self._limit_s:g} s of work, and has given none for {spent_s:.0f} s",
                reason=WORK_LIMIT,
                limit=int(self._limit_s),
                value=int(spent_s),
            )
