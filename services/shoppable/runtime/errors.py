"""Errors that a caller can act on, and their one translation to a gRPC status with google.rpc details.

Raise one of these anywhere below a servicer. Each carries a status code, a stable `reason` for programs, and a text
for people that says what to do. Nothing else reaches a caller: see `interceptors.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

DOMAIN = "shoppable"
# A status travels in trailers, where 8 KiB is the soft limit of gRPC and of some proxies for all of them together: the
# text percent-encoded, the details in base64. What is over the limit arrives as another error, without a reason.
_MAX_TEXT_BYTES = 512
_MAX_VIOLATIONS_BYTES = 2800


class ServiceError(Exception):
    """The base: never raised itself."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})

    def details(self) -> list[Message]:
        """Return the google.rpc details of this kind of error, without ErrorInfo."""
        return []


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a request: the field's path, such as `config.sampling`, and what it must be."""

    field: str
    description: str


class InvalidRequestError(ServiceError):
    """The request cannot be taken as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(
        self,
        violations: Sequence[Violation],
        *,
        reason: str = "INVALID_REQUEST",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.violations = tuple(violations)
        super().__init__(
            "; ".join(f"{violation.field}: {violation.description}" for violation in self.violations[:5])
            + (f"; and {len(self.violations) - 5} more" if len(self.violations) > 5 else ""),
            reason=reason,
            metadata=metadata,
        )

    def details(self) -> list[Message]:
        """Return a BadRequest with as many of the violations as there is room for."""
        request = details_pb2.BadRequest()
        for violation in self.violations:
            request.field_violations.add(field=_clipped(violation.field), description=_clipped(violation.description))
            if request.ByteSize() > _MAX_VIOLATIONS_BYTES:
                break
        return [request]


class _ResourceError(ServiceError):
    """An error about one named resource."""

    def __init__(self, resource_type: str, resource_name: str, message: str, *, reason: str) -> None:
        self.resource_type = resource_type
        self.resource_name = resource_name
        super().__init__(message, reason=reason)

    def details(self) -> list[Message]:
        """Return a ResourceInfo."""
        return [
            details_pb2.ResourceInfo(
                resource_type=self.resource_type,
                resource_name=_clipped(self.resource_name),
                description=_clipped(self.message),
            )
        ]


class NotFoundError(_ResourceError):
    """A resource that the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, resource_type: str, resource_name: str, message: str, *, reason: str = "NOT_FOUND") -> None:
        super().__init__(resource_type, resource_name, message, reason=reason)


class AlreadyExistsError(_ResourceError):
    """A resource that the request would make exists."""

    code = grpc.StatusCode.ALREADY_EXISTS

    def __init__(self, resource_type: str, resource_name: str, message: str, *, reason: str = "ALREADY_EXISTS") -> None:
        super().__init__(resource_type, resource_name, message, reason=reason)


class UnauthenticatedError(ServiceError):
    """The call does not say who makes it, or in a way that is not believed."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDeniedError(ServiceError):
    """The operator did not allow this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class FailedPreconditionError(ServiceError):
    """The state of the system forbids it: repeating the call does not help, changing the state does."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class DataLossError(ServiceError):
    """The data broke off for good."""

    code = grpc.StatusCode.DATA_LOSS


class InternalError(ServiceError):
    """A fault of ours that is known well enough to have a reason."""

    code = grpc.StatusCode.INTERNAL


class _RetryableError(ServiceError):
    """An error that may pass: the caller should try again after a while."""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        retry_after_s: float = 1.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message, reason=reason, metadata=metadata)

    def details(self) -> list[Message]:
        """Return a RetryInfo."""
        info = details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(int(self.retry_after_s * 1000))
        return [info]


class UnavailableError(_RetryableError):
    """Something that the call needs cannot be reached now."""

    code = grpc.StatusCode.UNAVAILABLE


class ExhaustedError(_RetryableError):
    """A limit on work in progress is reached now."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class QuotaExceededError(_RetryableError):
    """A caller has asked for more than its share."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, subject: str, message: str, *, reason: str, retry_after_s: float) -> None:
        self.subject = subject
        super().__init__(message, reason=reason, retry_after_s=retry_after_s, metadata={"caller": subject})

    def details(self) -> list[Message]:
        """Return a QuotaFailure and a RetryInfo."""
        violation = details_pb2.QuotaFailure.Violation(subject=f"caller:{self.subject}", description=self.message)
        return [details_pb2.QuotaFailure(violations=[violation]), *super().details()]


class DeadlineExceededError(ServiceError):
    """The caller's time is over."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED

    def __init__(
        self, message: str = "the deadline passed before the work was done", *, reason: str = "DEADLINE_EXCEEDED"
    ) -> None:
        super().__init__(message, reason=reason)


def to_status(error: ServiceError) -> status_pb2.Status:
    """Return the error as a google.rpc.Status with ErrorInfo first and its own details after.

    Long texts, such as a name that the caller sent, are cut: a status fits into the trailers of a call.
    """
    status = status_pb2.Status(code=error.code.value[0], message=_clipped(error.message))
    metadata = {key: _clipped(value) for key, value in error.metadata.items()}
    info = details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    for detail in (info, *error.details()):
        status.details.add().Pack(detail)
    return status


def _clipped(text: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= _MAX_TEXT_BYTES:
        return text
    return encoded[: _MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"
