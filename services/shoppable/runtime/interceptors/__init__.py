"""What happens around every call, in an order that has reasons: see `chain`."""

from collections.abc import Sequence

import grpc
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor

from shoppable.runtime.callers import identify_by
from shoppable.runtime.interceptors.admission import AdmissionLimits, admission
from shoppable.runtime.interceptors.errors import error_mapping
from shoppable.runtime.interceptors.measure import measurement
from shoppable.runtime.interceptors.outgoing import outgoing_cancellation, outgoing_origin
from shoppable.runtime.interceptors.scope import ScopeInterceptor


def chain(limits: AdmissionLimits, *, caller_key: str | None) -> list[grpc.aio.ServerInterceptor]:
    """Return the interceptors of a server, outermost first.

    Tracing is outermost, so that the span holds all the rest. Then, within one interceptor: measuring comes before
    the mapping of errors so that it sees the status that the caller gets, and admission is innermost so that refused
    calls are counted and logged like all others. A call that waits for its turn is counted as in work.
    """
    # The tracing interceptor cannot serve streams that write to their context, as the standard health service does.
    tracing: grpc.aio.ServerInterceptor = aio_server_interceptor(filter_=_is_ours)  # type: ignore[no-untyped-call]
    scopes = [measurement, error_mapping, admission(limits)]
    return [tracing, ScopeInterceptor(scopes, identify=identify_by(caller_key))]


def outgoing() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors of a channel to another service: the request id, the caller and the trace go along."""
    tracing = aio_client_interceptors()  # type: ignore[no-untyped-call]
    return [*outgoing_origin(), *tracing, outgoing_cancellation()]


def _is_ours(details: grpc.HandlerCallDetails) -> bool:
    return not details.method.startswith("/grpc.")
