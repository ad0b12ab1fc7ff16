"""Locks a worker in: what it can reach and use up is bounded from then on, whatever a video makes of it."""

import ctypes
import math
import os
import resource
import signal
import time
from pathlib import Path

from shoppable.decoder.workers import seccomp
from shoppable.decoder.workers.protocol import Limits

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_NICENESS = 15  # the service's own process, which takes and refuses calls, comes first
_MAX_DESCRIPTORS = 16  # a worker has three of its own beside the standard ones


def die_with_parent() -> None:
    """End this process when the thread that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def confine(limits: Limits, filter_program: bytes | None) -> None:
    """Bound memory, files and dumps, stand back for others, and refuse system calls, if there is a filter.

    What is to be opened or loaded must be so before.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # nobody reads its memory, not even its own user
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, value in (
        (resource.RLIMIT_AS, now_bytes + limits.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
    ):
        resource.setrlimit(kind, (value, value))
    os.nice(_NICENESS)
    if filter_program is not None:
        seccomp.install(filter_program)


class StepWatch:
    """Has the kernel end a worker (SIGXCPU) in which one step takes too much CPU: a codec that loops for ever."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._renewed_s = -math.inf

    def step(self) -> None:
        """Begin another step: gives it at least the limit, at most two seconds more."""
        now_s = time.process_time()
        if now_s - self._renewed_s >= 1:
            self._renewed_s = now_s
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(now_s + self._limit_s) + 1, hard))
