"""Lets in who is known, for what they may do, within their quota."""

import contextlib
from collections.abc import AsyncIterator

import structlog
from google.protobuf.message import Message

from shoppable.runtime.auth.authenticator import Authenticator
from shoppable.runtime.auth.callers import Caller
from shoppable.runtime.auth.catalogs import ABOUT_ALL, named_catalogs
from shoppable.runtime.auth.quotas import Quotas
from shoppable.runtime.call import Call, calling
from shoppable.runtime.errors import PermissionDeniedError
from shoppable.runtime.interceptors.scope import Scope

# Says no more than version and limits: whoever is known may ask.
_FOR_ALL_CALLERS = frozenset({"shoppable.v1.ServerInfoService"})


def authentication(authenticator: Authenticator) -> Scope:
    """Return a scope that lets a call in with its caller set, or refuses it.

    Every message of a request is looked at, so that a stream cannot name a catalogue after its first message.
    """
    quotas = Quotas()

    @contextlib.asynccontextmanager
    async def authenticate(call: Call) -> AsyncIterator[None]:
        metadata = tuple(call.context.invocation_metadata() or ())
        caller = await authenticator.caller(metadata, call.context.auth_context())
        structlog.contextvars.bind_contextvars(caller=caller.name)
        _check_rpc(caller, call)

        def check(request: object) -> None:
            if isinstance(request, Message):
                _check_catalogs(caller, request)

        call.request_checks.append(check)
        with quotas.spending(caller), calling(caller):
            yield

    return authenticate


def _check_rpc(caller: Caller, call: Call) -> None:
    if call.service not in _FOR_ALL_CALLERS and not caller.may_call(call.service, call.method):
        raise PermissionDeniedError(
            f"{caller.name} may not call {call.service}/{call.method}; its operator can allow it",
            reason="RPC_NOT_ALLOWED",
            metadata={"caller": caller.name, "rpc": f"{call.service}/{call.method}"},
        )
    if (call.service, call.method) in ABOUT_ALL and not caller.may_use_all:
        raise PermissionDeniedError(
            f"{call.method} tells of every catalogue, and {caller.name} may use only some",
            reason="CATALOG_NOT_ALLOWED",
            metadata={"caller": caller.name},
        )


def _check_catalogs(caller: Caller, request: Message) -> None:
    for catalog_id in named_catalogs(request):
        if not caller.may_use(catalog_id):
            raise PermissionDeniedError(
                f"{caller.name} may not use the catalogue {catalog_id[:63]}; its operator can allow it",
                reason="CATALOG_NOT_ALLOWED",
                metadata={"caller": caller.name, "catalog": catalog_id[:63]},
            )
