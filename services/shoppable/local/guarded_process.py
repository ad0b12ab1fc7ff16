"""A server as a child process that ends with us, whatever ends us; see `guardian`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shoppable.local import guardian

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The guardian's own time to end what is left, on top of the server's grace.
_GUARDIAN_LIMIT_S = 15.0
_AT_ONCE = signal.SIGQUIT


class GuardedProcess:
    """A running server and the guardian above it."""

    def __init__(self, process: asyncio.subprocess.Process, *, server_pid: int, grace_s: float) -> None:
        self._process = process
        self._grace_s = grace_s
        self.server_pid = server_pid

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        work_folder: Path,
        grace_s: float,
        shared_memory_prefix: str = "",
        niceness: int = 0,
    ) -> Self:
        """Starts a command.

        Args:
            command: The program and its arguments.
            environment: All of its environment; nothing is inherited.
            log_path: Receives what the server prints, after what is there; only its owner can read it.
            work_folder: Removed if we die without `stop`.
            grace_s: From SIGTERM to SIGKILL, in seconds.
            shared_memory_prefix: Names of the shared memory that belongs to the server.
            niceness: How far the server stands back for other processes that want a core, 0 to 19.

        Raises:
            OSError: The program cannot be started.
        """
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(Path(guardian.__file__)),
                f"--grace-s={grace_s}",
                f"--shared-memory-prefix={shared_memory_prefix}",
                f"--work-folder={work_folder}",
                f"--niceness={niceness}",
                "--",
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                process_group=0,
            )
        )
        starting.add_done_callback(lambda _: os.close(log))
        try:
            process = await asyncio.shield(starting)
            assert process.stdout is not None  # noqa: S101 -- asked for above
            line = await process.stdout.readline()
        except asyncio.CancelledError:
            # asyncio kills a process that it loses sight of; without its guardian, what a server started lives on.
            await _end_at_once(await starting)
            raise
        if not line:
            raise OSError(f"cannot start {command[0]}: exit status {await process.wait()}")
        return cls(process, server_pid=int(line), grace_s=grace_s)

    @property
    def exit_status(self) -> int | None:
        """The server's exit status (128 plus the number of a signal), or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Waits until the server and all it started are gone.

        Returns:
            The exit status.
        """
        return await self._process.wait()

    async def stop(self, *, at_once: bool = False) -> None:
        """Ends the server and waits until nothing of it is left; may be called again.

        Args:
            at_once: Without the grace, for a server that no longer answers.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(_AT_ONCE if at_once else signal.SIGTERM)
        try:
            async with asyncio.timeout(self._grace_s + _GUARDIAN_LIMIT_S):
                await self._process.wait()
        except TimeoutError:
            # Its death signal takes the server along.
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


async def _end_at_once(process: asyncio.subprocess.Process) -> None:
    # Until its line it does not listen to signals; a shell's background jobs inherit that this one is ignored.
    assert process.stdout is not None  # noqa: S101 -- asked for
    await process.stdout.readline()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(_AT_ONCE)
    await process.wait()
