"""Runs a command's coroutine: Ctrl-C ends it cleanly, and every expected error becomes a line or two."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TypeVar

import typer
from rich.text import Text

from shoppable.cli.console import make_console, plain
from shoppable.cli.failures import CommandError, explain

ResultT = TypeVar("ResultT")
INTERRUPTED = 130  # as shells have it: 128 plus SIGINT
_TERMINATED = 143


def run(work: Coroutine[None, None, ResultT]) -> ResultT:
    """Run to the end, or exit with a status and a message that can be read.

    SIGINT and SIGTERM cancel the work once, and what it started is stopped in order; asked again, we leave at once,
    and the children's guardians end them.

    Raises:
        typer.Exit: The work failed (1), was wrongly asked for (2), or was interrupted (130, 143).
    """
    received: list[int] = []
    try:
        return asyncio.run(_cancellable(work, received))
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        make_console(stderr=True).print("stopped" if received else "interrupted", style="yellow")
        raise typer.Exit(_TERMINATED if signal.SIGTERM in received else INTERRUPTED) from error
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        show(failure)
        raise typer.Exit(failure.exit_code) from error


def show(failure: CommandError) -> None:
    """Print an error and what belongs to it on stderr."""
    console = make_console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), plain(failure.message)), soft_wrap=True)
    for detail in failure.details:
        console.print(Text(f"  {plain(detail)}"), soft_wrap=True)


async def _cancellable(work: Coroutine[None, None, ResultT], received: list[int]) -> ResultT:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def stop(number: int) -> None:
        received.append(number)
        # The second time it interrupts the clean-up.
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
