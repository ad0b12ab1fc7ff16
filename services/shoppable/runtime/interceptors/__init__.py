"""What happens around every call, in an order that has reasons: see `chain`."""

from collections.abc import Callable, Sequence

import grpc
from grpc_channelz.v1 import channelz_pb2
from grpc_reflection.v1alpha import reflection
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor

from shoppable.runtime.accounts import account_by
from shoppable.runtime.auth.authenticator import Authenticator
from shoppable.runtime.interceptors.admission import Admission, AdmissionLimits
from shoppable.runtime.interceptors.authentication import authentication
from shoppable.runtime.interceptors.errors import error_mapping
from shoppable.runtime.interceptors.measure import measurement
from shoppable.runtime.interceptors.outgoing import outgoing_cancellation, outgoing_headers
from shoppable.runtime.interceptors.scope import Scope, ScopeInterceptor
from shoppable.runtime.interceptors.shedding import SheddingInterceptor

_CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
_REFLECTION = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")


def chain(
    limits: AdmissionLimits,
    *,
    caller_key: str | None,
    authenticator: Authenticator | None = None,
    open_reflection: bool = False,
) -> list[grpc.aio.ServerInterceptor]:
    """Return the interceptors of a server, outermost first.

    Shedding is outermost: what nobody could be let in for costs nothing else. Then tracing, so that the span holds all
    the rest. Then, within one interceptor: measuring comes before the mapping of errors so that it sees the status
    that the caller gets, and admission is innermost so that those that it refuses are counted and logged like all
    others. A call that waits for its turn is counted as in work. Authentication comes before admission: strangers take
    no place that a caller could have. Of the standard services, only health is open to strangers.
    """
    admission = Admission(limits, account_by(caller_key))
    scopes: list[Scope] = [measurement, error_mapping]
    standard: list[str] = []
    if authenticator is not None and authenticator.asks:
        scopes.append(authentication(authenticator))
        standard = [_CHANNELZ, *([] if open_reflection else _REFLECTION)]
    # The tracing interceptor cannot serve streams that write to their context, as the standard health service does.
    tracing: grpc.aio.ServerInterceptor = aio_server_interceptor(filter_=_is_ours)  # type: ignore[no-untyped-call]
    scopes.append(admission.admit)
    return [SheddingInterceptor(admission), tracing, ScopeInterceptor(scopes, standard=standard)]


def outgoing(api_key: Callable[[], str] | None = None) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors of a channel to another service: request id, account, trace and our own key go along."""
    tracing = aio_client_interceptors()  # type: ignore[no-untyped-call]
    return [*outgoing_headers(api_key), *tracing, outgoing_cancellation()]


def _is_ours(details: grpc.HandlerCallDetails) -> bool:
    return not details.method.startswith("/grpc.")
