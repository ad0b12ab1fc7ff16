"""The one error of the client, with all that a server said about it in plain attributes."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

import grpc
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class FieldViolation:
    """One thing that is wrong with a request."""

    field: str
    description: str


@dataclass(eq=False)  # an exception is itself, and can be hashed
class ShoppableError(Exception):
    """A call failed.

    Branch on `code` and `reason`; show `message` to people.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""  # stable, such as "NOT_A_VIDEO"; empty if the error did not come from a server of the suite
    violations: tuple[FieldViolation, ...] = ()
    resource_type: str = ""
    resource_name: str = ""
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: status_pb2.Status | None = None  # as it came, with all details

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @classmethod
    def from_status(cls, status: status_pb2.Status) -> "ShoppableError":
        """Read a google.rpc.Status, as errors and partial failures carry it."""
        codes = {code.value[0]: code for code in grpc.StatusCode}
        error = cls(codes.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status=status)
        for detail in status.details:
            error._read(detail)  # its own
        return error

    @classmethod
    def from_rpc(cls, error: grpc.RpcError) -> "ShoppableError":
        """Read gRPC's error, of either stack: both have what is read of a call."""
        call = cast("grpc.Call", error)
        try:
            status = rpc_status.from_call(call)
        except ValueError:  # the details disagree with the code: not ours
            status = None
        if status is None:
            return cls(call.code(), call.details() or call.code().name.replace("_", " ").lower())
        return cls.from_status(status)

    def _read(self, detail: object) -> None:
        info = details_pb2.ErrorInfo()
        request = details_pb2.BadRequest()
        resource = details_pb2.ResourceInfo()
        retry = details_pb2.RetryInfo()
        if detail.Unpack(info):  # type: ignore[attr-defined]  # a google.protobuf.Any
            self.reason, self.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request):  # type: ignore[attr-defined]
            self.violations = tuple(FieldViolation(item.field, item.description) for item in request.field_violations)
        elif detail.Unpack(resource):  # type: ignore[attr-defined]
            self.resource_type, self.resource_name = resource.resource_type, resource.resource_name
        elif detail.Unpack(retry):  # type: ignore[attr-defined]
            self.retry_after_s = retry.retry_delay.ToMilliseconds() / 1000


def readable(answer: AnswerT | None) -> AnswerT:
    """Return an answer that could be read.

    gRPC logs why one could not be, such as want of memory, and gives None in its place.

    Raises:
        ShoppableError: UNAVAILABLE, `UNREADABLE_ANSWER`.
    """
    if answer is None:
        raise ShoppableError(grpc.StatusCode.UNAVAILABLE, "the answer could not be read", "UNREADABLE_ANSWER")
    return answer


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn gRPC's errors into ShoppableError."""
    try:
        yield
    except grpc.RpcError as error:
        raise ShoppableError.from_rpc(error) from error
