"""Ends a call whose reader has stopped to read."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status

from shoppable.decoder.errors import IdleError
from shoppable.runtime.errors import to_status

_log = structlog.get_logger(__name__)


class ReaderWatch:
    """Watches the writes of one call, which wait as long as the reader's window is full."""

    def __init__(self, context: Any, *, idle_s: float) -> None:
        """Create it in the task of the call."""
        self._context = context
        self._idle_s = idle_s
        self._task = asyncio.current_task()
        self._aborting: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Wrap the `yield` of a response: if it takes longer than `idle_s` seconds, the call ends."""
        timer = asyncio.get_running_loop().call_later(self._idle_s, self._cut_off)
        try:
            yield
        finally:
            timer.cancel()

    def _cut_off(self) -> None:
        _log.info("reader cut off", idle_s=self._idle_s)
        self._aborting = asyncio.create_task(self._abort())
        if self._task is not None:
            self._task.cancel()

    async def _abort(self) -> None:
        error = IdleError(f"the reader took no frame for {self._idle_s:g} s", reason="READER_IDLE")
        with contextlib.suppress(grpc.aio.AbortError):
            await self._context.abort_with_status(rpc_status.to_status(to_status(error)))
