import grpc
import pytest

from shoppable.client import ShoppableError
from shoppable.client.errors import FieldViolation
from shoppable.orchestrator.errors import as_status, reason_of, upstream_error

Code = grpc.StatusCode
# What another service answers, and what our caller gets.
PASSED_ON = {
    Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION, Code.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED, Code.DATA_LOSS, Code.UNAVAILABLE,
}  # fmt: skip
TURNED = {Code.CANCELLED: Code.UNAVAILABLE}


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
def test_every_answer_of_a_service_becomes_one_of_ours(code):
    error = upstream_error(ShoppableError(code, "because", reason="REASON"), "frame decoder")
    expected = code if code in PASSED_ON else TURNED.get(code, Code.INTERNAL)
    assert error.code is expected
    if expected is Code.INTERNAL:
        assert "because" not in error.message  # what is between the services stays there
    else:
        assert error.reason == "REASON"
        assert "because" in error.message


def test_a_service_that_cannot_be_reached_is_named_and_may_be_asked_again():
    error = upstream_error(ShoppableError(Code.UNAVAILABLE, "failed to connect to 10.0.0.7:1"), "frame decoder")
    assert "frame decoder" in error.message
    assert "10.0.0.7" not in error.message
    assert error.retry_after_s > 0


def test_fields_are_called_what_our_caller_called_them():
    refused = ShoppableError(
        Code.INVALID_ARGUMENT,
        "x",
        violations=(FieldViolation("config.source.uri", "must be"), FieldViolation("config.start_time", "must be")),
    )
    error = upstream_error(refused, "frame decoder", fields={"config.source": "source", "config.": "options."})
    assert [item.field for item in error.violations] == ["source.uri", "options.start_time"]


def test_a_recorded_failure_keeps_its_reason():
    assert reason_of(as_status(ShoppableError(Code.UNAVAILABLE, "x", reason="AWAY"), "product matcher")) == "AWAY"
