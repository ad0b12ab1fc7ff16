"""Health that follows what a service needs, for as long as it runs.

A service is NOT_SERVING until its check has passed once, again whenever the check fails, and for good once the server
drains. The name "" stands for all services together, and "liveness" for the process: it serves while it answers at all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from shoppable.runtime import metrics

_log = structlog.get_logger(__name__)
_Status = health_pb2.HealthCheckResponse

# Returns if the service can work now and raises if it cannot; the error's text says why.
ReadinessCheck = Callable[[], Awaitable[None]]


async def always_ready() -> None:
    """The check of a service that needs nothing but itself."""


LIVENESS = "liveness"


class HealthMonitor:
    """Keeps the standard health service true."""

    def __init__(self, checks: Mapping[str, ReadinessCheck], *, interval_s: float, timeout_s: float) -> None:
        self._checks = dict(checks)
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._last: dict[str, str | None] = {}  # why a service is not ready; None if it is
        self.servicer = aio.HealthServicer()

    async def start(self) -> None:
        """Set all to NOT_SERVING: the library's servicer begins with SERVING."""
        for name in ("", *self._checks):
            await self.servicer.set(name, _Status.NOT_SERVING)
            if name:
                metrics.SERVING.labels(name).set(0)
        await self.servicer.set(LIVENESS, _Status.SERVING)

    async def watch(self) -> None:
        """Check for ever."""
        while True:
            await self.check_once()
            await asyncio.sleep(self._interval_s)

    async def check_once(self) -> bool:
        """Run all checks, publish what they say, and return whether all services can work."""
        reasons = await asyncio.gather(*(self._reason(check) for check in self._checks.values()))
        for name, reason in zip(self._checks, reasons, strict=True):
            if self._last.get(name, "") != reason:
                _log.info("health changed", service=name, serving=reason is None, reason=reason)
            self._last[name] = reason
            metrics.SERVING.labels(name).set(reason is None)
            await self.servicer.set(name, _Status.SERVING if reason is None else _Status.NOT_SERVING)
        ready = all(reason is None for reason in reasons)
        await self.servicer.set("", _Status.SERVING if ready else _Status.NOT_SERVING)
        return ready

    async def drain(self) -> None:
        """Turn all services to NOT_SERVING for good: no check may run any more. The process goes on being alive."""
        for name in ("", *self._checks):
            await self.servicer.set(name, _Status.NOT_SERVING)

    async def _reason(self, check: ReadinessCheck) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await check()
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except Exception as error:  # whatever a check raises means "not ready"
            return str(error) or type(error).__name__
        return None
