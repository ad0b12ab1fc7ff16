"""The caller's deadline reaches every service behind the orchestrator, and no later one does."""

import asyncio

import grpc
import pytest

from shoppable.client import ShoppableError
from support.orchestrating import ScriptedDecoder, ScriptedDetector, ScriptedMatcher, orchestrating, seen, told

TIMEOUT_S = 2.0
ENDLESS = 100_000


def noting(double: object, method: str, left: dict[str, float | None]) -> object:
    """Have a scripted service note how much time its call has."""
    work = getattr(double, method)

    def noted(request, context):
        left.setdefault(method, context.time_remaining())
        return work(request, context)

    if method == "MatchProducts":

        async def noted_once(request, context):
            return await noted(request, context)

        setattr(double, method, noted_once)
    else:

        async def noted_many(request, context):
            async for response in noted(request, context):
                yield response

        setattr(double, method, noted_many)
    return double


async def test_every_service_behind_has_no_more_time_than_the_caller_left():
    left: dict[str, float | None] = {}

    def script(number: int) -> list:
        return [seen("cup")] if number < 12 else []  # leaves, so that it is matched while the film goes on

    async with orchestrating(
        decoder=noting(ScriptedDecoder(ENDLESS, delay_s=0.01), "DecodeFrames", left),
        detector=noting(ScriptedDetector(script), "StreamDetectObjects", left),
        matcher=noting(ScriptedMatcher(), "MatchProducts", left),
        max_gap_s=0.5, reentry_window_s=0.1,
    ) as client:  # fmt: skip
        clock = asyncio.get_running_loop().time
        started = clock()
        with pytest.raises(ShoppableError) as caught:
            await told(client, timeout_s=TIMEOUT_S)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert clock() - started >= TIMEOUT_S
    assert left.keys() == {"DecodeFrames", "StreamDetectObjects", "MatchProducts"}
    for method, seconds in left.items():
        assert seconds is not None, method
        assert 0 < seconds <= TIMEOUT_S + 0.01, (method, seconds)  # gRPC rounds up to its next unit
