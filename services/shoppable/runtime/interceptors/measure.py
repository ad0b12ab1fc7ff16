"""Counts calls, measures their length, and logs how each ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import structlog

from shoppable.runtime import metrics
from shoppable.runtime.call import Call

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def measurement(call: Call) -> AsyncIterator[None]:
    """Count and time the call, by the code that its caller gets."""
    labels = (call.service, call.method)
    started = time.perf_counter()
    metrics.CALLS_IN_WORK.labels(*labels).inc()
    code = "UNKNOWN"
    try:
        yield
        code = "OK"
    except grpc.aio.AbortError:
        code = _code_name(call.context.code())
        raise
    except (asyncio.CancelledError, GeneratorExit):
        left = call.left_s
        code = "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
        raise
    finally:
        seconds = time.perf_counter() - started
        metrics.CALLS_IN_WORK.labels(*labels).dec()
        metrics.CALLS.labels(*labels, code).inc()
        metrics.CALL_SECONDS.labels(*labels).observe(seconds)
        _log.info("call ended", service=call.service, code=code, seconds=round(seconds, 4))


def _code_name(code: object) -> str:
    """Return the name of a status code, which the context gives as an enum or as its number."""
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")
