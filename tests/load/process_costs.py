"""What processes have cost, from /proc: CPU seconds and peak memory of each with all its descendants."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Cost:
    """CPU seconds since a process began, and its peak memory; of a tree, the sums."""

    cpu_s: float = 0.0
    peak_mib: float = 0.0


def cost_of_tree(pid: int) -> Cost:
    """Return what a process and its descendants have cost so far; of those that ended and were reaped, the CPU time."""
    costs = [_cost(one) for one in tree(pid)]
    return Cost(sum(cost.cpu_s for cost in costs), sum(cost.peak_mib for cost in costs))


def tree(pid: int) -> Iterable[int]:
    """Yield a process and its descendants."""
    yield pid
    for task in (_PROC / str(pid) / "task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:  # it has just ended
            continue
        for child in children:
            yield from tree(int(child))


def _cost(pid: int) -> Cost:
    try:
        # The name, in parentheses, may hold spaces; fields are counted behind it.
        stat = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return Cost()
    peak_kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
    # Its own time in user and kernel mode, and that of its children that ended.
    return Cost(sum(map(int, stat[11:15])) / _TICKS, peak_kib / 1024)
