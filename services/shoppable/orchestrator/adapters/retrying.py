"""The budget of retries: how often a service that is away may be asked again, by all videos together.

Each video is patient for itself. Without a budget, sixteen patient videos would ask a service that has just come back
sixteen times as often as one, and keep it down. A retry takes a token; successes and time bring them back.
"""

import asyncio
import random
import time

_JITTER = 0.2  # share of a wait


class RetryBudget:
    """Tokens for retries of calls to one service."""

    def __init__(self, *, burst: float = 10.0, per_success: float = 0.1, per_second: float = 4.0) -> None:
        """Hold at most `burst` tokens; each success brings `per_success`, and each second `per_second`."""
        self._burst = burst
        self._per_success = per_success
        self._per_second = per_second
        self._tokens = burst
        self._refilled = time.monotonic()

    def succeeded(self) -> None:
        """Note that a call went well."""
        self._tokens = min(self._burst, self._tokens + self._per_success)

    async def wait(self, delay_s: float) -> None:
        """Wait for `delay_s`, about, and for a token if there is none."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._per_second)
        self._refilled = now
        self._tokens -= 1  # also below 0: that much later the next one is due
        owed_s = max(0.0, -self._tokens) / self._per_second
        spread = 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311  # no secret
        try:
            await asyncio.sleep(max(delay_s, owed_s) * spread)
        except asyncio.CancelledError:
            self._tokens += 1  # not asked
            raise
