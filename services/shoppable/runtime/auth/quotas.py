"""How much each caller may ask of this server: calls in a second (a token bucket) and calls in work.

Every replica counts for itself, so a caller's quota of the whole service is this times its replicas.
"""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from shoppable.runtime.auth.callers import Caller
from shoppable.runtime.errors import QuotaExceededError

# Names may come from tokens: what is kept of them must not grow without bound.
_REMEMBERED = 10_000
_RETRY_AFTER_S = 1.0


class _Account:
    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.filled_at = now
        self.in_work = 0


class Quotas:
    """The accounts of all callers."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: OrderedDict[tuple[str, str], _Account] = OrderedDict()

    @contextlib.contextmanager
    def spending(self, caller: Caller) -> Iterator[None]:
        """Count a call while inside.

        Raises:
            QuotaExceededError: The caller has reached its quota; a refused call is not counted.
        """
        quota = caller.quota
        account = self._account(caller)
        if quota.concurrent_calls is not None and account.in_work >= quota.concurrent_calls:
            raise QuotaExceededError(
                caller.name,
                f"{quota.concurrent_calls} of your calls are in work, your quota of this server",
                reason="CALLER_CONCURRENCY",
                retry_after_s=_RETRY_AFTER_S,
            )
        if quota.requests_per_second is not None:
            if account.tokens < 1:
                raise QuotaExceededError(
                    caller.name,
                    f"your quota of this server is {quota.requests_per_second:g} calls a second",
                    reason="CALLER_RATE",
                    retry_after_s=(1 - account.tokens) / quota.requests_per_second,
                )
            account.tokens -= 1
        account.in_work += 1
        try:
            yield
        finally:
            account.in_work -= 1

    def _account(self, caller: Caller) -> _Account:
        rate = caller.quota.requests_per_second or 0.0
        burst = float(caller.quota.burst or max(1.0, rate))
        key, now = (caller.kind, caller.name), self._clock()
        account = self._accounts.get(key)
        if account is None:
            self._forget()
            account = self._accounts[key] = _Account(burst, now)
        self._accounts.move_to_end(key)
        account.tokens = min(burst, account.tokens + (now - account.filled_at) * rate)
        account.filled_at = now
        return account

    def _forget(self) -> None:
        """Make room by dropping the account that was idle for longest; those in work stay."""
        while len(self._accounts) >= _REMEMBERED:
            idle = next((key for key, account in self._accounts.items() if not account.in_work), None)
            if idle is None:
                return
            del self._accounts[idle]
