"""The orchestrator's way to a matcher that is away for a while, over real sockets."""

import asyncio
import contextlib
import time

import grpc
import pytest

from shoppable.client import CatalogClient, MatcherClient, open_channel
from shoppable.orchestrator.adapters.matcher import MatcherAdapter
from shoppable.orchestrator.domain import Decision, MatchOptions
from shoppable.runtime.errors import NotFoundError, ServiceError, UnavailableError, to_status
from shoppable.v1 import product_matcher_pb2, product_matcher_pb2_grpc
from support.scripted import scripted

LOOKS = [product_matcher_pb2.Embedding(values=[1.0])]
OPTIONS = MatchOptions("catalogs/c")


class Moody(product_matcher_pb2_grpc.ProductMatcherServiceServicer):
    """Fails while `mood` returns an error, as a whole or for the one query."""

    def __init__(self, mood, *, whole: bool) -> None:
        self.mood, self.whole = mood, whole
        self.asked = 0

    async def MatchProducts(self, request, context):
        self.asked += 1
        error = self.mood(self.asked)
        if error and self.whole:
            raise error
        result = product_matcher_pb2.MatchResult(decision=product_matcher_pb2.MATCH_DECISION_NO_MATCH)
        if error:
            result.status.CopyFrom(to_status(error))
        return product_matcher_pb2.MatchProductsResponse(results=[result])


def away(_asked: int) -> ServiceError:
    return UnavailableError("away", reason="INFERENCE_UNAVAILABLE", retry_after_s=0.05)


@contextlib.asynccontextmanager
async def adapter(servicer: Moody, *, patience_s: float = 10.0):
    async with scripted("ProductMatcherService", servicer) as (_, address), open_channel(address) as channel:
        yield MatcherAdapter(
            MatcherClient(channel), CatalogClient(channel), jpeg=False, timeout_s=10, patience_s=patience_s
        )


@pytest.mark.parametrize("whole", [True, False])
async def test_a_thing_is_matched_once_the_matcher_is_back(whole):
    async with adapter(Moody(lambda asked: away(asked) if asked < 8 else None, whole=whole)) as matcher:
        assert (await matcher.match(LOOKS, "", OPTIONS)).decision is Decision.NO_MATCH


async def test_when_patience_is_over_every_thing_fails_at_once_until_the_matcher_is_back():
    servicer = Moody(away, whole=True)
    async with adapter(servicer, patience_s=0.3) as matcher:
        assert (await matcher.match(LOOKS, "", OPTIONS)).failure.code == grpc.StatusCode.UNAVAILABLE.value[0]
        before = servicer.asked
        outcomes = await asyncio.gather(*(matcher.match(LOOKS, "", OPTIONS) for _ in range(5)))
        assert all(outcome.failure for outcome in outcomes)
        assert servicer.asked - before <= 5 * 3  # the channel's own few attempts
        servicer.mood = lambda _: None
        assert (await matcher.match(LOOKS, "", OPTIONS)).decision is Decision.NO_MATCH


async def test_what_every_thing_would_meet_ends_the_work():
    async with adapter(Moody(lambda _: NotFoundError("catalog", "c", "no such"), whole=True)) as matcher:
        with pytest.raises(NotFoundError):
            await matcher.match(LOOKS, "", OPTIONS)


async def test_many_things_that_wait_for_the_matcher_share_one_budget_of_retries():
    moments: list[float] = []

    def mood(asked: int) -> ServiceError:
        moments.append(time.monotonic())
        return away(asked)

    servicer = Moody(mood, whole=False)
    things, patience_s, soonest = 30, 1.5, 0.8
    async with adapter(servicer, patience_s=patience_s) as matcher:
        outcomes = await asyncio.gather(*(matcher.match(LOOKS, "", OPTIONS) for _ in range(things)))
        assert all(outcome.failure for outcome in outcomes)
        # Each thing once; a burst of ten; four a second from the first failure until patience ends, waits being spread
        # by a fifth; and one last time for each that was due later. Without the budget, a retry each 0.05 s would make
        # it 900.
        until_all_failed_s = moments[things - 1] - moments[0]
        assert servicer.asked <= things + 10 + 4 * (patience_s / soonest + until_all_failed_s) + things
        servicer.mood = lambda _: None
        assert (await matcher.match(LOOKS, "", OPTIONS)).decision is Decision.NO_MATCH
