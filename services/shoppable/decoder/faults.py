"""What can be wrong with a video, as found where it is decoded. Knows no gRPC, so that a worker need not load it."""

NOT_A_VIDEO = "NOT_A_VIDEO"  # no container that is read here
NO_VIDEO_STREAM = "NO_VIDEO_STREAM"  # sound only, or a cover picture
NO_FRAMES = "NO_FRAMES"  # a video of no length, or without a single frame that can be decoded
UNSUPPORTED_CODEC = "UNSUPPORTED_CODEC"
PIXEL_LIMIT = "PIXEL_LIMIT"
DURATION_LIMIT = "DURATION_LIMIT"
FRAME_LIMIT = "FRAME_LIMIT"
WORK_LIMIT = "WORK_LIMIT"  # too much work without a frame


class RefusedError(Exception):
    """It is no video that is taken here."""

    def __init__(self, text: str, *, reason: str, limit: int | None = None, value: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.reason = reason
        self.limit = limit
        self.value = value


class BrokenError(Exception):
    """Nothing more can be read although the video has not ended."""


class UnreadableError(Exception):
    """The file cannot be read now."""


class ExhaustedError(Exception):
    """The video needs more memory than it may have."""
