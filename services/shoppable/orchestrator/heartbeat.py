"""Tells how far the work is at a steady pace, also while nothing becomes known."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from shoppable.orchestrator.domain import Event, Progress


async def with_progress(
    steps: AsyncGenerator[Event | None, None], progress: Callable[[], Progress | None], *, every_s: float
) -> AsyncGenerator[Event, None]:
    """Yield events as they come and, whatever they wait for, how far the work is, if there is something to tell.

    A step of the work that makes nothing known is None. The work is at most a step ahead of who reads.
    """
    told = time.perf_counter()
    step = asyncio.ensure_future(anext(steps))
    try:
        while True:
            await asyncio.wait([step], timeout=max(0.0, told + every_s - time.perf_counter()))
            is_done = step.done()
            if is_done:
                try:
                    event = step.result()
                except StopAsyncIteration:
                    return
                if event is not None:
                    yield event
            if time.perf_counter() - told >= every_s:
                told = time.perf_counter()
                if (now := progress()) is not None:
                    yield now
            if is_done:
                step = asyncio.ensure_future(anext(steps))
    finally:
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
