"""Looks at other processes through /proc; on a system without it there is nothing to see."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")
_GONE = frozenset({"Z", "X", "x"})  # a zombie has died too


def children_named(parent: int, *, name: str) -> frozenset[int]:
    """The living children of a process whose program has a name.

    Args:
        parent: The process id.
        name: The program's file name.
    """
    shown = name[:15]  # as much as Linux keeps
    found = set()
    for entry in _PROC.glob("[0-9]*"):
        pid = int(entry.name)
        status = _status(pid)
        if status is not None and status[0] == shown and status[2] == parent and status[1] not in _GONE:
            found.add(pid)
    return frozenset(found)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    status = _status(pid)
    return status is not None and status[1] not in _GONE


def _status(pid: int) -> tuple[str, str, int] | None:
    """A process's program, state and parent."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    program, _, rest = text.partition("(")[2].rpartition(")")
    state, parent, *_ = rest.split()
    return program, state, int(parent)
