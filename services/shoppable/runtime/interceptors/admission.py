"""Bounds the calls in work, and refuses the others at once and in a way that tells them when to come back."""

import contextlib
from collections.abc import AsyncIterator

from shoppable.runtime.call import Call
from shoppable.runtime.errors import ExhaustedError
from shoppable.runtime.interceptors.scope import Scope


def admission(max_concurrent_calls: int) -> Scope:
    """Return a scope that lets at most so many calls in at a time."""
    in_work = 0

    @contextlib.asynccontextmanager
    async def admit(_call: Call) -> AsyncIterator[None]:
        nonlocal in_work
        if in_work >= max_concurrent_calls:
            raise ExhaustedError(
                f"{max_concurrent_calls} calls are in work, this server's limit; try again after the retry delay",
                reason="TOO_MANY_CALLS",
                metadata={"limit": "max_concurrent_calls", "value": str(max_concurrent_calls)},
            )
        in_work += 1
        try:
            yield
        finally:
            in_work -= 1

    return admit
