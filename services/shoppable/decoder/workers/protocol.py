"""What the service, its fork server and the workers say to each other, over sockets that keep messages apart.

A worker is not trusted: what it says is JSON, which the service checks. What the service says may be pickled. Knows no
gRPC, as it is loaded in the workers.
"""

import dataclasses
import json
import struct
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.domain import Order, Summary, VideoFacts

MAX_JOB_BYTES = 160 * 1024  # an order of 10,000 moments has 90 KB
MAX_READ_BYTES = 64 * 1024  # at a time, through the service
MAX_REPORT_BYTES = 64 * 1024

# To the fork server, with a socket for a new worker; and back, how a worker ended, as by os.waitstatus_to_exitcode.
LAUNCH, KILL = b"L", b"K"
COMMAND = struct.Struct("<cQ")  # the worker's number
ENDED = struct.Struct("<Qi")
NOT_FORKED = 1000  # no exit code
READY, READY_UNCONFINED = b"ready", b"open"  # at the start; the latter where system calls cannot be filtered

# To a worker, after its job.
FREE = b"f"  # a slot may be written again: its number follows
DATA = b"d"  # what was read
PLACE = b"p"  # where a seek led


@dataclass(frozen=True)
class Limits:
    """What the kernel holds a worker to."""

    memory_bytes: int  # of addresses, beyond what it has when it begins


@dataclass(frozen=True)
class Slots:
    """Shared memory for pictures that wait for their reader."""

    count: int
    bytes_each: int

    @property
    def total_bytes(self) -> int:
        """Return the size of all slots; a page is taken when it is first written."""
        return self.count * self.bytes_each


@dataclass(frozen=True)
class Job:
    """What a worker does. With it come the descriptors of the slots, if any, and of the file, if it has one."""

    task: Literal["decode", "probe", "find device"]
    guards: Guards
    limits: Limits
    order: Order = field(default_factory=Order)
    size_bytes: int | None = None  # of the file; None: not known yet
    has_descriptor: bool = False  # or the file is read through the service
    seekable: bool = True  # or the file, which has no descriptor then, is read once, while it arrives
    slots: Slots | None = None


# From a worker


@dataclass(frozen=True)
class ReadWish:
    """Read on; answered by DATA."""

    size: int
    kind: Literal["read"] = "read"


@dataclass(frozen=True)
class SeekWish:
    """Go to a place; answered by PLACE."""

    offset: int
    whence: int
    kind: Literal["seek"] = "seek"


@dataclass(frozen=True)
class Opened:
    """The video is open."""

    facts: VideoFacts
    accelerated: bool
    kind: Literal["opened"] = "opened"


@dataclass(frozen=True)
class Picture:
    """A frame is in a slot. The counts are those of the whole call until then."""

    slot: int
    size_bytes: int
    width: int
    height: int
    time_ns: int
    keyframe: bool
    scene_cut: bool
    frames_decoded: int
    damaged_packets: int
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Done:
    """All is decoded."""

    summary: Summary
    kind: Literal["done"] = "done"


@dataclass(frozen=True)
class Fault:
    """The work ends with one of the errors of `faults`."""

    fault: Literal["refused", "broken", "unreadable", "exhausted"]
    text: str
    frames_decoded: int
    damaged_packets: int
    reason: str = ""
    limit: int | None = None
    value: int | None = None
    kind: Literal["fault"] = "fault"


@dataclass(frozen=True)
class Bug:
    """The work ends with an error that nobody thought of."""

    traceback: str
    kind: Literal["bug"] = "bug"


@dataclass(frozen=True)
class Device:
    """Whether there is a GPU to decode on."""

    failure: str | None
    kind: Literal["device"] = "device"


Report: TypeAlias = ReadWish | SeekWish | Opened | Picture | Done | Fault | Bug | Device


def encode(report: Report) -> bytes:
    """Return what is sent; enumerations leave as their values."""
    return json.dumps(dataclasses.asdict(report), default=lambda member: member.value).encode()
