"""Reads which frames a stream's config asks for, and in what form."""

from collections.abc import Sequence
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from shoppable.decoder.domain import (
    DEFAULT_SAMPLING,
    NS_PER_S,
    Encoding,
    EveryNthFrame,
    FramesPerSecond,
    KeyframesOnly,
    Moments,
    Order,
    Sampling,
    Scenes,
)
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, frame_decoder_pb2

_MAX_MOMENTS = 10_000
_MAX_S = 315_576_000_000  # of a Duration
_ENCODINGS = {
    common_pb2.IMAGE_FORMAT_UNSPECIFIED: Encoding.RGB24,
    common_pb2.IMAGE_FORMAT_RGB24: Encoding.RGB24,
    common_pb2.IMAGE_FORMAT_JPEG: Encoding.JPEG,
}


def read_order(config: frame_decoder_pb2.DecodeFramesConfig, violations: Violations) -> Order:
    """Read what a config asks for; what is wrong with it is added to the violations."""
    start_ns = _read_time(config, "start_time", violations)
    end_ns = _read_time(config, "end_time", violations)
    if end_ns is not None:
        violations.check(end_ns > (start_ns or 0), "config.end_time", "must be after start_time")
    side = violations.optional_number(config, "longest_side", low=16, high=8192, default=16, prefix="config.")
    quality = violations.optional_number(config, "jpeg_quality", low=1, high=100, default=90, prefix="config.")
    encoding = _ENCODINGS.get(config.output_format)
    if encoding is None:
        violations.add("config.output_format", "must be RGB24 or JPEG")
    return Order(
        sampling=_read_sampling(config.sampling, (start_ns or 0, end_ns), violations),
        start_ns=start_ns or 0,
        end_ns=end_ns,
        longest_side=int(side) if config.HasField("longest_side") else None,
        encoding=encoding or Encoding.RGB24,
        jpeg_quality=int(quality),
    )


def _read_time(config: frame_decoder_pb2.DecodeFramesConfig, name: str, violations: Violations) -> int | None:
    if violations.optional_duration(config, name, prefix="config.") is None:
        return None
    time: Duration = getattr(config, name)  # to the nanosecond, which a timedelta does not hold
    return time.seconds * NS_PER_S + time.nanos


def _read_sampling(
    message: common_pb2.FrameSampling, span_ns: tuple[int, int | None], violations: Violations
) -> Sampling:
    prefix = "config.sampling."
    match message.WhichOneof("strategy"):
        case "frames_per_second":
            rate = violations.optional_number(
                message, "frames_per_second", low=0.01, high=240, default=5, prefix=prefix
            )
            # 29.97 is meant as that decimal number, not as the double beside it.
            return FramesPerSecond(Fraction(repr(rate)))
        case "every_nth_frame":
            n = violations.optional_number(message, "every_nth_frame", low=1, high=100_000, default=1, prefix=prefix)
            return EveryNthFrame(int(n))
        case "keyframes_only":
            return KeyframesOnly()
        case "timestamps":
            return _read_moments(message.timestamps.times, span_ns, violations)
        case "scenes":
            rate = violations.optional_number(
                message.scenes, "frames_per_second", low=0.01, high=240, default=1, prefix=f"{prefix}scenes."
            )
            return Scenes(Fraction(repr(rate)))
        case _:
            return DEFAULT_SAMPLING


def _read_moments(messages: Sequence[Duration], span_ns: tuple[int, int | None], violations: Violations) -> Sampling:
    field = "config.sampling.timestamps.times"
    if not violations.check(
        1 <= len(messages) <= _MAX_MOMENTS, field, f"must be 1..{_MAX_MOMENTS} times, and are {len(messages)}"
    ):
        return DEFAULT_SAMPLING
    last, (start_ns, end_ns) = -1, span_ns
    for number, message in enumerate(messages):
        time_ns = message.seconds * NS_PER_S + message.nanos
        well_formed = 0 <= message.seconds <= _MAX_S and 0 <= message.nanos < NS_PER_S
        if not well_formed or time_ns <= last:
            violations.add(f"{field}[{number}]", "must be a time of 0 or more, and later than the one before")
            return DEFAULT_SAMPLING  # what follows would only repeat it
        last = time_ns
    times = tuple(message.seconds * NS_PER_S + message.nanos for message in messages)
    inside = start_ns <= times[0] and (end_ns is None or times[-1] < end_ns)
    violations.check(inside, field, "must be at or after start_time and before end_time")
    return Moments(times)
