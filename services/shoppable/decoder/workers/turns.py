"""How a worker shares the cores: the service's own process comes first, and among workers each has long turns.

Where more films are decoded than there are cores, the kernel gives each a few milliseconds, about one frame; then it
finds the caches full of the others' pictures. Sixteen films on one core got a fifth less done than one film, and in
turns of 50 ms as much (`make bench-decoder` has the throughput of many).
"""

import ctypes
import os
import platform
import struct

_NICENESS = 15
_TURN_S = 0.05  # a live film that waits for one turn of each of a few others is not late
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # system calls, which the C library has no name for
_SIZE = 48  # of sched_attr's first version: size, policy, flags, nice, priority, runtime, deadline, period


def stand_back() -> None:
    """Let the service go first and, where the kernel can, ask for long turns. Threads that start later inherit both."""
    os.nice(_NICENESS)
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = struct.pack("=IIQiIQQQ", _SIZE, os.SCHED_OTHER, 0, niceness, 0, round(_TURN_S * 1e9), 0, 0)
    # Linux 6.12 and later; others ignore it or refuse it, and then turns are short.
    ctypes.CDLL(None).syscall(number, 0, ctypes.create_string_buffer(attributes, _SIZE), 0)
