"""The decoder's errors, with their stable reasons."""

import grpc

from shoppable.runtime.errors import (
    DataLossError,
    ExhaustedError,
    InvalidRequestError,
    ServiceError,
    UnavailableError,
    Violation,
)

# Those of what is wrong inside a video are in `faults`.
SIZE_LIMIT = "SIZE_LIMIT"
BROKEN_VIDEO = "BROKEN_VIDEO"
REMOTE_UNAVAILABLE = "REMOTE_UNAVAILABLE"
SOURCE_CHANGED = "SOURCE_CHANGED"
RETRY_AFTER_S = 1.0  # if nobody says more


class RefusedVideoError(InvalidRequestError):
    """The source is no video that is taken here; `field` is the path of the source in the request."""

    def __init__(
        self, field: str, text: str, *, reason: str, limit: int | None = None, value: int | None = None
    ) -> None:
        named = {"limit": limit, "value": value}
        metadata = {key: str(number) for key, number in named.items() if number is not None}
        super().__init__([Violation(field, text)], reason=reason, metadata=metadata)


def oversize(field: str, *, limit: int, value: int) -> RefusedVideoError:
    """Return the refusal of a file that is named and has too many bytes."""
    return RefusedVideoError(
        field,
        f"must name a file of at most {limit} bytes, and its has {value}",
        reason=SIZE_LIMIT,
        limit=limit,
        value=value,
    )


def unavailable(text: str, *, retry_after_s: float = RETRY_AFTER_S) -> UnavailableError:
    """Return the error of a source elsewhere that cannot be had now."""
    return UnavailableError(text, reason=REMOTE_UNAVAILABLE, retry_after_s=retry_after_s)


def changed() -> DataLossError:
    """Return the error of a source elsewhere that was exchanged for another while it was read.

    Not UNAVAILABLE: who goes on after the last frame would join two films.
    """
    return DataLossError("the video was changed while it was read", reason=SOURCE_CHANGED)


class BrokenVideoError(DataLossError):
    """Nothing more can be read although the video has not ended."""

    def __init__(self, text: str) -> None:
        super().__init__(text, reason=BROKEN_VIDEO)


class BusyError(ExhaustedError):
    """As many videos are in work as the settings allow."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} videos are in work, this decoder's limit; try again after the retry delay",
            reason="DECODER_BUSY",
            metadata={"limit": "concurrent_streams", "value": str(limit)},
        )


class IdleError(ServiceError):
    """The other side of the call did nothing for too long."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class StoppedError(Exception):
    """Nobody wants the video any more: it ends the work in threads, and reaches no caller."""
