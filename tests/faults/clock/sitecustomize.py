"""A wall clock that a test can put forward and back in running processes: Python runs this file when it starts.

The eight bytes of the file that FAULTY_CLOCK names are the seconds by which the clock is wrong. The monotonic clock is
left alone, as it is when somebody sets a machine's clock.
"""

import datetime as dt
import mmap
import os
import struct
import time
from pathlib import Path

_PATH = os.environ.get("FAULTY_CLOCK")


def _spoil(path: Path) -> None:
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    true_time, true_datetime = time.time, dt.datetime

    def wrong_by() -> float:
        return struct.unpack("d", shared[:8])[0]

    class _AnyDatetime(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, true_datetime)

    class WrongDatetime(true_datetime, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return true_datetime.now(tz) + dt.timedelta(seconds=wrong_by())

    time.time = lambda: true_time() + wrong_by()
    time.time_ns = lambda: int(time.time() * 1e9)
    dt.datetime = WrongDatetime


if _PATH and Path(_PATH).exists():
    _spoil(Path(_PATH))
