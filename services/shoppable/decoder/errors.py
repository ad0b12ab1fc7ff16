"""The decoder's errors, with their stable reasons."""

import grpc

from shoppable.runtime.errors import DataLossError, ExhaustedError, InvalidRequestError, ServiceError, Violation

# Those of what is wrong inside a video are in `faults`.
SIZE_LIMIT = "SIZE_LIMIT"
BROKEN_VIDEO = "BROKEN_VIDEO"


class RefusedVideoError(InvalidRequestError):
    """The source is no video that is taken here; `field` is the path of the source in the request."""

    def __init__(
        self, field: str, text: str, *, reason: str, limit: int | None = None, value: int | None = None
    ) -> None:
        named = {"limit": limit, "value": value}
        metadata = {key: str(number) for key, number in named.items() if number is not None}
        super().__init__([Violation(field, text)], reason=reason, metadata=metadata)


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
