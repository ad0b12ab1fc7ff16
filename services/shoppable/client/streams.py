"""Bidirectional calls that end as they really ended.

grpc.aio loses the server's status if the call ends while a request is being written: the failed write overwrites it
with INTERNAL "Internal error from Core" (grpc/grpc issue 36066). A refused upload would look like a fault of the
server. Each status is shown to the call's done callbacks before it can be overwritten, and there it is kept.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import grpc

from shoppable.client.errors import ShoppableError, readable, translated
from shoppable.client.serialization import unwritable

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResultT = TypeVar("ResultT")

_OVERWRITTEN = "Internal error from Core"
# The status is already in the process when a write fails; it only has to be picked up.
_STATUS_LIMIT_S = 1.0


async def call_stream(
    method: Callable[..., grpc.aio.StreamStreamCall[RequestT, ResponseT]],
    requests: AsyncIterator[RequestT],
    *,
    timeout_s: float | None,
) -> AsyncGenerator[ResponseT, None]:
    """Call a method with a stream of requests and yield its answers.

    Its errors are ShoppableError; an error of `requests` itself is raised as it is. Who stops reading cancels the call.
    """
    source = _Source(requests)
    call = method(source.guarded(), timeout=timeout_s)
    ending: asyncio.Future[grpc.aio.AioRpcError | None] = asyncio.get_running_loop().create_future()
    call.add_done_callback(lambda ended: _keep(ended, ending))
    try:
        with translated():
            try:
                async for response in call:
                    yield readable(response)
            except grpc.aio.AioRpcError as error:
                if not _is_overwritten(error.code(), error.details()):
                    raise
                failure = await _true_ending(ending)
                if failure is not None:
                    raise failure from error
    except asyncio.CancelledError:
        # gRPC cancels a call whose requests fail, and says no more.
        if source.failure:
            raise source.failure from None
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise unwritable() from None
        raise
    finally:
        call.cancel()


class _Source:
    """Requests whose failure is kept: gRPC reads them in a task of its own, and drops it there."""

    def __init__(self, requests: AsyncIterator[RequestT]) -> None:
        self._requests: AsyncIterator[Any] = requests
        self.failure: Exception | None = None

    async def guarded(self) -> AsyncIterator[Any]:
        try:
            async for request in self._requests:
                yield request
        except Exception as error:
            self.failure = error
            raise


async def _true_ending(ending: asyncio.Future[grpc.aio.AioRpcError | None]) -> Exception | None:
    """Return what the call failed with; None if it did not: the server needed no more requests."""
    try:
        return await asyncio.wait_for(ending, _STATUS_LIMIT_S)
    except TimeoutError:
        return ShoppableError(grpc.StatusCode.UNAVAILABLE, "the call broke while a request was being sent")


def _keep(call: Any, ending: asyncio.Future[grpc.aio.AioRpcError | None]) -> None:
    """Keep the status that a call has just got, unless it is the one that overwrites or one is kept already."""
    code, details = _at_once(call.code()), _at_once(call.details())
    if ending.done() or code is None or _is_overwritten(code, details):
        return
    if code is grpc.StatusCode.OK:
        ending.set_result(None)
        return
    initial, trailing = _at_once(call.initial_metadata()), _at_once(call.trailing_metadata())
    ending.set_result(
        grpc.aio.AioRpcError(code, initial or grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), details)
    )


def _is_overwritten(code: grpc.StatusCode, details: str | None) -> bool:
    return code is grpc.StatusCode.INTERNAL and details == _OVERWRITTEN


def _at_once(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT | None:
    """Return the result of a coroutine that has nothing to wait for; None if it would wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: ResultT = stop.value
        return result
    coroutine.close()
    return None
