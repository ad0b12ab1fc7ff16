"""Tells how far the work is at a steady pace, also while nothing becomes known."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from shoppable.orchestrator.domain import Event, Progress


async def with_progress(
    events: AsyncGenerator[Event, None], progress: Callable[[], Progress | None], *, every_s: float
) -> AsyncGenerator[Event, None]:
    """Yield events as they come and, whatever they wait for, how far the work is, if there is something to tell."""
    told = time.perf_counter()
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            await asyncio.wait([coming], timeout=max(0.0, told + every_s - time.perf_counter()))
            if coming.done():
                event = coming.result()
                if event is None:
                    return
                yield event
                coming = asyncio.ensure_future(anext(events, None))
            if time.perf_counter() - told >= every_s:
                told = time.perf_counter()
                if (now := progress()) is not None:
                    yield now
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
