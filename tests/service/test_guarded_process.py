"""A server that is given up while it starts takes along what it had started itself."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoppable.local.guarded_process import GuardedProcess

LIMIT_S = 30
# A server with a child, as Triton has its models' processes. Both are known by a variable of their environment.
_SERVER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
time.sleep(300)
"""


def living(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


def started_child(mark: str) -> bool:
    return len(living(mark)) >= 3  # guardian, server, its child


@pytest.fixture
def background_job() -> Iterator[None]:
    """Ignore what a shell lets its background jobs ignore."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGQUIT, before)


@pytest.mark.usefixtures("background_job")
@pytest.mark.parametrize("moment", ["at once", "while it is being started", "long after, in a loop that was busy"])
def test_a_start_that_is_given_up_leaves_no_process(tmp_path: Path, moment: str) -> None:
    mark = f"{os.getpid()}-{moment}"

    async def give_up() -> None:
        start = asyncio.create_task(
            GuardedProcess.start(
                [sys.executable, "-c", _SERVER],
                environment={"MARK": mark},
                log_path=tmp_path / "log",
                work_folder=tmp_path,
                grace_s=5,
            )
        )
        if moment == "long after, in a loop that was busy":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            deadline_s = time.monotonic() + LIMIT_S
            while not started_child(mark) and time.monotonic() < deadline_s:
                time.sleep(0.01)
            assert started_child(mark)
        elif moment == "while it is being started":
            await asyncio.sleep(0.02)
        start.cancel()
        (begun,) = await asyncio.gather(start, return_exceptions=True)
        if isinstance(begun, GuardedProcess):  # it was quicker
            await begun.stop(at_once=True)

    asyncio.run(give_up())
    deadline_s = time.monotonic() + LIMIT_S
    while (left := living(mark)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not left
