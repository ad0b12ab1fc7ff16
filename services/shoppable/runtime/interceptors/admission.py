"""Bounds the calls in work and those that wait, for all and for each caller, and refuses the others at once.

A call that waits is let in in its caller's turn: callers take turns, so that one with many calls waits for itself and
not before the others. Whose a call is, tells its account: see `runtime.accounts`.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from shoppable.runtime import metrics
from shoppable.runtime.call import Call, counted_as
from shoppable.runtime.errors import ExhaustedError


@dataclass(frozen=True)
class AdmissionLimits:
    """How many calls may be in work and wait."""

    calls: int
    calls_per_caller: int | None = None
    queued: int = 0
    queue_wait_s: float = 5.0


class Admission:
    """The calls of one server."""

    def __init__(self, limits: AdmissionLimits, account: Callable[[Call], str]) -> None:
        self._limits = limits
        self._account = account
        self._in_work: Counter[str] = Counter()
        # Callers in the order of their turns, each with its calls in the order in which they came.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def admit(self, call: Call) -> AsyncIterator[None]:
        """Hold a place while inside; wait for it, if there is room to wait.

        Raises:
            ExhaustedError: A limit is reached; its metadata names it.
        """
        caller = self._account(call)
        await self._enter(caller)
        try:
            with counted_as(caller):
                yield
        finally:
            self._leave(caller)

    async def _enter(self, caller: str) -> None:
        if self._has_room(caller) and caller not in self._waiting:
            self._in_work[caller] += 1
            return
        self._check_queue(caller)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(place)
        metrics.CALLS_WAITING.inc()
        try:
            async with asyncio.timeout(self._limits.queue_wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # let in at the moment in which it gave up
                self._leave(caller)
            else:
                self._leave_queue(caller, place)
            if isinstance(error, TimeoutError):
                raise self._full(caller) from error
            raise
        finally:
            metrics.CALLS_WAITING.dec()

    def _leave(self, caller: str) -> None:
        self._in_work[caller] -= 1
        if not self._in_work[caller]:
            del self._in_work[caller]
        self._let_in()

    def _let_in(self) -> None:
        """Give free places to the callers that wait, in turn."""
        for caller in list(self._waiting):
            if self._in_work.total() >= self._limits.calls:
                return
            if not self._has_room(caller):
                continue
            places = self._waiting[caller]
            place = places.popleft()
            if places:
                self._waiting.move_to_end(caller)  # its next call waits for the others' turns
            else:
                del self._waiting[caller]
            self._in_work[caller] += 1
            place.set_result(None)

    def _leave_queue(self, caller: str, place: asyncio.Future[None]) -> None:
        places = self._waiting[caller]
        places.remove(place)
        if not places:
            del self._waiting[caller]

    def _has_room(self, caller: str) -> bool:
        limits = self._limits
        mine = limits.calls_per_caller is None or self._in_work[caller] < limits.calls_per_caller
        return mine and self._in_work.total() < limits.calls

    @property
    def is_full(self) -> bool:
        """Whether nobody is let in now, and nobody may wait."""
        return self._in_work.total() >= self._limits.calls and self._queue_is_full

    @property
    def _queue_is_full(self) -> bool:
        return sum(map(len, self._waiting.values())) >= self._limits.queued

    def _check_queue(self, caller: str) -> None:
        """Raise unless one more may wait; a caller may fill its share of the queue and no more."""
        others = len(self._waiting.keys() - {caller})
        mine = len(self._waiting.get(caller, ()))
        if self._queue_is_full or mine >= max(1, self._limits.queued // (others + 1)):
            raise self._full(caller)

    def _full(self, caller: str) -> ExhaustedError:
        most = self._limits.calls_per_caller
        if most is not None and self._in_work[caller] >= most:
            error = _refusal("max_calls_per_caller", most, reason="TOO_MANY_CALLS_OF_CALLER")
        else:
            error = self.refusal()
        metrics.CALLS_REFUSED.labels(error.reason).inc()
        return error

    def refusal(self) -> ExhaustedError:
        """Return what a caller is told while all places are taken."""
        return _refusal("max_concurrent_calls", self._limits.calls, reason="TOO_MANY_CALLS")


def _refusal(limit: str, value: int, *, reason: str) -> ExhaustedError:
    return ExhaustedError(
        f"{value} calls are in work, the limit {limit} of this server; try again after the retry delay",
        reason=reason,
        metadata={"limit": limit, "value": str(value)},
    )
