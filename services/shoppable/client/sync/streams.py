"""Blocking bidirectional calls: answers are iterated, and any thread may cancel."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from shoppable.client.errors import translated

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class ResponseStream(Iterator[ResponseT], Generic[ResponseT]):
    """The answers of a running call.

    Who stops reading before the end should cancel, or use it as a context manager, which does: else the call goes on.
    After `cancel` of another thread, the iteration ends with ShoppableError of code CANCELLED.
    """

    def __init__(self, call: Any, source: "_Source") -> None:
        self._call = call
        self._source = source

    def __next__(self) -> ResponseT:
        """Wait for the next answer.

        Raises:
            ShoppableError: The call failed.
            StopIteration: It has ended well.
        """
        with translated():
            try:
                response: ResponseT = next(self._call)
            except grpc.RpcError:
                # gRPC ends a call whose requests fail with a status that says no more.
                if self._source.failure:
                    raise self._source.failure from None
                raise
            return response

    def cancel(self) -> None:
        """End the call, and the work for it. Does nothing if it has ended."""
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()


class _Source:
    """Requests whose failure is kept: gRPC reads them in a thread of its own, and drops it there."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self._requests = requests
        self.failure: Exception | None = None

    def guarded(self) -> Iterator[Any]:
        try:
            yield from self._requests
        except Exception as error:
            self.failure = error
            raise


def call_stream(
    method: Callable[..., Iterator[ResponseT]], requests: Iterator[RequestT], *, timeout_s: float | None
) -> ResponseStream[ResponseT]:
    """Call a method with a stream of requests, and return its answers.

    Their errors are ShoppableError; an error of `requests` itself is raised as it is.
    """
    source = _Source(requests)
    return ResponseStream(method(source.guarded(), timeout=timeout_s), source)
