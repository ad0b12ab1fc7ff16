"""Collects all that is wrong with a request, so that the caller hears of everything at once."""

import math
from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from shoppable.runtime.errors import InvalidRequestError, Violation

# google.protobuf.Duration's own bounds: about 10,000 years.
_MAX_DURATION_S = 315_576_000_000


class Violations:
    """A request's violations. Check field by field, then call `raise_if_any`.

    >>> violations = Violations()
    >>> violations.check(longest_side >= 16, "config.longest_side", "must be at least 16")
    >>> violations.raise_if_any()
    """

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def found(self) -> Sequence[Violation]:
        """All violations so far."""
        return tuple(self._found)

    def add(self, field: str, description: str) -> None:
        """Note that `field` is wrong; the description says what it must be."""
        self._found.append(Violation(field, description))

    def check(self, holds: bool, field: str, description: str) -> bool:
        """Note a violation unless `holds`; return `holds`."""
        if not holds:
            self.add(field, description)
        return holds

    def optional_number(
        self, message: Message, name: str, *, low: float, high: float, default: float, prefix: str = ""
    ) -> float:
        """Return an `optional` number's value, or `default` if it is unset or wrong; NaN is wrong."""
        if not message.HasField(name):
            return default
        value = getattr(message, name)
        if not math.isfinite(value) or not low <= value <= high:
            self.add(f"{prefix}{name}", f"must be in {low:g}..{high:g}, and is {value:g}")
            return default
        return float(value)

    def optional_duration(self, message: Message, name: str, *, prefix: str = "") -> timedelta | None:
        """Return a Duration's value; None if it is unset or wrong. Negative ones are wrong."""
        if not message.HasField(name):
            return None
        value: Duration = getattr(message, name)
        malformed = abs(value.seconds) > _MAX_DURATION_S or abs(value.nanos) >= 1_000_000_000
        if malformed or value.seconds < 0 or value.nanos < 0:
            self.add(f"{prefix}{name}", "must be a time of 0 or more")
            return None
        return timedelta(seconds=value.seconds, microseconds=value.nanos / 1000)

    def raise_if_any(self) -> None:
        """Raise InvalidRequestError with all violations, if there are any."""
        if self._found:
            raise InvalidRequestError(self._found)
