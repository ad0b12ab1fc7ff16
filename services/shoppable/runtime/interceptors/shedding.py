"""Refuses calls at the door while nobody could be let in, for a fraction of what admission would take to say the same.

A server that is asked for ten times what it can do says no nine times for each call that it does. What a refusal costs
is then taken from the work: with spans, scopes and a line in the log for each it was a sixth of it.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status

from shoppable.runtime import metrics
from shoppable.runtime.errors import to_status
from shoppable.runtime.interceptors.admission import Admission

_TELL_EACH_S = 1.0
_log = structlog.get_logger(__name__)


class SheddingInterceptor(grpc.aio.ServerInterceptor):
    """Answers for services of ours while admission has neither a place nor room to wait, whoever asks."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        error = admission.refusal()
        self._reason = error.reason
        self._status = rpc_status.to_status(to_status(error))
        self._untold = 0
        self._told_at = -_TELL_EACH_S

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        # A method that does not exist is told as such, and makes no label of a metric.
        if handler is None or service.startswith("grpc.") or not self._admission.is_full:
            return handler

        async def refuse(_: Any, context: Any) -> None:
            self._note(service, method)
            await context.abort_with_status(self._status)

        # As if it took and gave streams: no message is read, and none answered.
        make: Any = grpc.stream_stream_rpc_method_handler
        return make(refuse)

    def _note(self, service: str, method: str) -> None:
        metrics.CALLS_REFUSED.labels(self._reason).inc()
        metrics.CALLS.labels(service, method, grpc.StatusCode.RESOURCE_EXHAUSTED.name).inc()
        self._untold += 1
        now = time.monotonic()
        if now >= self._told_at + _TELL_EACH_S:
            _log.info("calls refused at the door", calls=self._untold, reason=self._reason)
            self._untold, self._told_at = 0, now
