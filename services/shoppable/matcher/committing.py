"""The end of a stream that takes effect as a whole: a commit."""

from collections.abc import AsyncIterator
from typing import Any

from shoppable.runtime.errors import FailedPreconditionError, InvalidRequestError, Violation


async def until_commit(requests: AsyncIterator[Any], field: str, *, name: str, needed: bool) -> AsyncIterator[Any]:
    """Yield what the messages after the config carry in `field`; `name` is the resource that they change.

    A call that is cancelled looks to its handler as if the caller had sent all, until a moment later the handler is
    cancelled too: without a commit, what a caller gave up half way could take effect.

    Raises:
        InvalidRequestError: A message is none of these, or the commit counts others than came.
        FailedPreconditionError: The stream ended without the commit that it needs.
    """
    count, committed = 0, False
    async for request in requests:
        kind = request.WhichOneof("request")
        if committed:
            raise InvalidRequestError([Violation("commit", "must be the last message of the stream")])
        if kind == field:
            count += 1
            yield getattr(request, field)
        elif kind == "commit":
            rule = f"must be {count}, the messages since the config, and is {request.commit.count}"
            if request.commit.count != count:
                raise InvalidRequestError([Violation("commit.count", rule)])
            committed = True
        elif kind == "config":
            raise InvalidRequestError([Violation("config", "must be sent once, first")])
        else:
            raise InvalidRequestError([Violation(field, "must be set in every message after the first")])
    if needed and not committed:
        raise FailedPreconditionError(
            f"{name} stays as it is: the stream ended without a commit, which must be its last message",
            reason="NOT_COMMITTED",
        )
