"""What a benchmark says of the machine and of its processes."""

import os
import platform
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Say what this was measured on, and how busy it is with other things."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Python {platform.python_version()}, load {load:.1f}"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has had, in ticks of usually 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
