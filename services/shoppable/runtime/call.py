"""The call that is being served: its request id and how much time it has left, wherever the code stands."""

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc
import structlog

from shoppable.runtime.auth.callers import Caller
from shoppable.runtime.errors import DeadlineExceededError

REQUEST_ID_KEY = "x-request-id"
# Ids come from strangers and go to logs and other services' headers.
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:/+=-]{1,128}")


@dataclass(frozen=True)
class Call:
    """A call in work."""

    service: str  # full name, such as "shoppable.v1.FrameDecoderService"
    method: str  # such as "DecodeFrames"
    request_id: str
    context: "grpc.aio.ServicerContext[object, object]"
    # What each message of the request must pass, once decoded; scopes add to it. A check raises a ServiceError.
    request_checks: list[Callable[[object], None]] = field(default_factory=list)
    # When its caller stops waiting, on the monotonic clock; None: never.
    deadline: float | None = None

    @property
    def left_s(self) -> float | None:
        """The seconds until its deadline; None without one. A machine whose clock is set changes nothing in it."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_caller: ContextVar[Caller | None] = ContextVar("shoppable_caller", default=None)
_account: ContextVar[str | None] = ContextVar("shoppable_account", default=None)
_current: ContextVar[Call | None] = ContextVar("shoppable_call", default=None)


def current_request_id() -> str | None:
    """Return the request id of the call in work, or None outside of any."""
    call = _current.get()
    return call.request_id if call else None


def current_caller() -> Caller | None:
    """Return who made the call in work; None outside of any, and where callers do not have to say who they are."""
    return _caller.get()


def current_account() -> str | None:
    """Return the name under which the call in work is counted, or None outside of any: see `runtime.accounts`."""
    return _account.get()


def remaining_s(limit_s: float) -> float:
    """Return the seconds that work done for the current call may take: its time left, and at most `limit_s`.

    Raises:
        DeadlineExceededError: No time is left.
    """
    call = _current.get()
    left = call.left_s if call else None
    if left is None:
        return limit_s
    if left <= 0:
        raise DeadlineExceededError
    return min(left, limit_s)


def deadline_of(context: "grpc.aio.ServicerContext[object, object]") -> float | None:
    """Return when a call's caller stops waiting, on the monotonic clock; None if it waits for ever.

    To be read when the call begins: gRPC tells the time left by the machine's clock, which may be set meanwhile.
    """
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def request_id_of(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    """Return the caller's request id, or a new one if it sent none that is fit to be logged."""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(8)


@contextlib.contextmanager
def serving(call: Call) -> Iterator[None]:
    """Make `call` the current one, for code and log records."""
    token = _current.set(call)
    try:
        with structlog.contextvars.bound_contextvars(request_id=call.request_id, method=call.method):
            yield
    finally:
        structlog.contextvars.unbind_contextvars("caller")
        # A stream that its client dropped is closed by the garbage collector, in a context of its own.
        with contextlib.suppress(ValueError):
            _current.reset(token)


@contextlib.contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Make `caller` the one whose call is in work."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # as in `serving`
            _caller.reset(token)


@contextlib.contextmanager
def counted_as(account: str) -> Iterator[None]:
    """Count the call in work, and those made for it, under a name."""
    token = _account.set(account)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # as in `serving`
            _account.reset(token)
