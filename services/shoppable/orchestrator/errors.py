"""Errors of the services that the orchestrator asks, as its own callers get them."""

import grpc
import structlog
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

from shoppable.client import ShoppableError
from shoppable.runtime.errors import (
    DataLossError,
    DeadlineExceededError,
    ExhaustedError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ServiceError,
    UnavailableError,
    Violation,
    to_status,
)

_log = structlog.get_logger(__name__)

# What a caller of the orchestrator did, in its own words: everything else is between the services.
_TEXT_ERRORS: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}


def upstream_error(error: ShoppableError, service: str, *, fields: dict[str, str] | None = None) -> ServiceError:
    """Return the error with which a call ends when `service` (words for people) failed it.

    `fields` maps the beginnings of field paths in that service's request to those in the orchestrator's.
    """
    if error.code is grpc.StatusCode.INVALID_ARGUMENT:
        violations = [Violation(_renamed(item.field, fields or {}), item.description) for item in error.violations]
        return InvalidRequestError(
            violations or [Violation("request", error.message)], reason=error.reason or "INVALID_REQUEST"
        )
    if error.code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(
            error.resource_type, error.resource_name, error.message, reason=error.reason or "NOT_FOUND"
        )
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ExhaustedError(
            f"the {service} is at its limit: {error.message}",
            reason=error.reason or "UPSTREAM_EXHAUSTED",
            retry_after_s=error.retry_after_s or 1.0,
        )
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError(error.message, reason=error.reason) if error.reason else DeadlineExceededError()
    if error.code in _TEXT_ERRORS:
        return _TEXT_ERRORS[error.code](error.message, reason=error.reason or error.code.name)
    if error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        return UnavailableError(
            error.message if error.reason else f"the {service} cannot be reached now; try again after the retry delay",
            reason=error.reason or "UPSTREAM_UNAVAILABLE",
            retry_after_s=error.retry_after_s or 1.0,
            metadata={"service": service},
        )
    _log.error("a service failed", upstream=service, code=error.code.name, detail=error.message)
    return InternalError(f"the {service} failed", reason="UPSTREAM_FAILED", metadata={"service": service})


def as_status(error: ShoppableError, service: str) -> status_pb2.Status:
    """Return the status by which a partial failure is recorded."""
    return to_status(upstream_error(error, service))


def reason_of(status: status_pb2.Status) -> str:
    """Return the stable reason of a status, or its code's number."""
    info = details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return str(info.reason)
    return str(status.code)


def _renamed(path: str, fields: dict[str, str]) -> str:
    for beginning, replacement in fields.items():
        if path.startswith(beginning):
            return replacement + path[len(beginning) :]
    return path
