"""Runs one server as a child and makes sure that nothing of it outlives the program that wanted it.

    python guardian.py --grace-s 10 --shared-memory-prefix NAME --work-folder DIR -- command ...

The guardian starts the command as a process group and writes its process id as a line to standard output. It
ends the group when it is sent SIGTERM (or SIGQUIT: at once, without the grace), when its standard input ends
(the program that started it holds the other end and is gone, however it died), or when the command ends by
itself; then it removes the shared memory the server left, and ends with the server's exit status. Killed itself,
it takes the server along.

A death signal set by the program itself would not do: Linux sends it when the *thread* that started the child
ends, and it does not reach what the server has started. This file imports the standard library only, so that it
starts within a few hundredths of a second, and does not restart anything.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- where Linux keeps POSIX shared memory
_PARENT_CHECK_S = 1.0
_ENDING_CHECK_S = 0.02
_ENDING_LIMIT_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command to its end.

    Returns:
        The server's exit status, 128 plus the signal's number if one ended it.
    """
    options = _parse(arguments)
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    stop_requests: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: stop_requests.append(number))
    signal.signal(signal.SIGQUIT, lambda number, _: stop_requests.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    parent = os.getppid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the server leaves behind becomes ours to wait for

    server = subprocess.Popen(  # noqa: S603 -- the command is our starter's own
        options.command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        process_group=0,
        umask=0o077,
        preexec_fn=functools.partial(_as_child, options.niceness),  # safe: this process has one thread
    )
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()

    orphaned = False
    while server.poll() is None and not stop_requests and not orphaned:
        readable, _, _ = select.select([wake_reader, sys.stdin.fileno()], [], [], _PARENT_CHECK_S)
        if wake_reader in readable:
            os.read(wake_reader, 4096)
        ended = sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 4096)
        # The parent's other children may have inherited the pipe, so its end is not the only sign.
        orphaned = ended or os.getppid() != parent

    status = _end(server, grace_s=0.0 if signal.SIGQUIT in stop_requests else options.grace_s)
    _wait_for_descendants(server.pid)
    remove_shared_memory(options.shared_memory_prefix)
    if orphaned and options.work_folder:
        shutil.rmtree(options.work_folder, ignore_errors=True)
    return status


def shared_memory_regions(prefix: str) -> list[Path]:
    """The POSIX shared memory whose names begin with a prefix; for an empty one, none."""
    return list(_SHARED_MEMORY.glob(f"{prefix}*")) if prefix and _SHARED_MEMORY.is_dir() else []


def remove_shared_memory(prefix: str) -> None:
    """Removes the POSIX shared memory whose names begin with a prefix; an empty one removes nothing."""
    for region in shared_memory_regions(prefix):
        with contextlib.suppress(OSError):
            region.unlink()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs a server that must not outlive its starter.")
    parser.add_argument("--grace-s", type=float, default=10.0, help="between SIGTERM and SIGKILL")
    parser.add_argument("--shared-memory-prefix", default="", help="regions to remove at the end")
    parser.add_argument("--work-folder", default="", help="removed at the end if the starter is gone")
    parser.add_argument("--niceness", type=int, default=0, help="of the command, above our own")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _end(server: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """Ends the server and everything in its process group."""
    if server.poll() is None and grace_s > 0:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=grace_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    status = server.wait()
    return status if status >= 0 else 128 - status


def _wait_for_descendants(group: int) -> None:
    """Waits until what the server had started is gone too: only then is its shared memory unused."""
    deadline_s = time.monotonic() + _ENDING_LIMIT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(_ENDING_CHECK_S)


def _as_child(niceness: int) -> None:
    os.nice(niceness)
    guardian = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:  # it died before the line above took effect
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
