import base64
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb2

from shoppable.client import ShoppableError
from shoppable.runtime import errors
from shoppable.runtime.errors import ServiceError, Violation, to_status

EXAMPLES: list[ServiceError] = [
    errors.InvalidRequestError([Violation("config.fps", "must be in 1..2"), Violation("config.size", "must be set")]),
    errors.NotFoundError("catalog", "catalogs/x", "no such catalogue"),
    errors.AlreadyExistsError("catalog", "catalogs/x", "is there"),
    errors.UnauthenticatedError("who?", reason="CREDENTIAL_MISSING"),
    errors.QuotaExceededError("web-shop", "too often", reason="CALLER_RATE", retry_after_s=0.5),
    errors.PermissionDeniedError("not allowed", reason="OUTSIDE_ROOTS"),
    errors.FailedPreconditionError("not so", reason="EMBEDDER_MISMATCH"),
    errors.DataLossError("broke off", reason="BROKEN_VIDEO"),
    errors.InternalError("oh", reason="INTERNAL"),
    errors.UnavailableError("later", reason="AWAY", retry_after_s=1.5),
    errors.ExhaustedError("full", reason="TOO_MANY_CALLS", retry_after_s=0.25),
    errors.DeadlineExceededError(),
]


def all_kinds(kind: type[ServiceError]) -> set[type[ServiceError]]:
    found = {kind} if not kind.__name__.startswith("_") and kind is not ServiceError else set()
    return found.union(*(all_kinds(child) for child in kind.__subclasses__() if child.__module__ == errors.__name__))


def test_every_kind_of_error_has_an_example_here():
    assert all_kinds(ServiceError) == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_to_the_client_with_all_that_it_says(error: ServiceError):
    seen = ShoppableError.from_status(to_status(error))
    assert seen.code is type(error).code
    assert seen.code is not grpc.StatusCode.OK
    assert (seen.message, seen.reason) == (error.message, error.reason)
    if isinstance(error, errors.InvalidRequestError):
        assert [(item.field, item.description) for item in seen.violations] == [
            (item.field, item.description) for item in error.violations
        ]
    if hasattr(error, "retry_after_s"):
        assert seen.retry_after_s == pytest.approx(error.retry_after_s)
    if hasattr(error, "resource_name"):
        assert (seen.resource_type, seen.resource_name) == (error.resource_type, error.resource_name)


def test_details_stay_small_however_much_is_wrong():
    error = errors.InvalidRequestError([Violation(f"images[{index}]", "must be readable") for index in range(5000)])
    status = to_status(error)
    assert status.ByteSize() < 8192
    request = details_pb2.BadRequest()
    assert status.details[1].Unpack(request)
    assert len(request.field_violations) >= 50
    assert "and 4995 more" in status.message


@pytest.mark.parametrize("text", ["x" * 20_000, "\U0001f600" * 5000, "\n" * 20_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda text: errors.NotFoundError("catalog", text, f"there is no catalogue {text}"),
        lambda text: errors.InvalidRequestError([Violation(text, text)] * 100),
        lambda text: errors.UnavailableError(text, reason="AWAY", metadata={"cause": text}),
    ],
)
def test_a_status_fits_into_trailers_however_long_the_callers_own_texts_are(text: str, make):
    status = to_status(make(text))
    in_trailers = len(quote(status.message)) + len(base64.b64encode(status.SerializeToString()))
    assert in_trailers < 8000
    assert status.message.startswith(make(text).message[:100])
