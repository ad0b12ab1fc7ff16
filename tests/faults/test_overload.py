"""More is asked for than can be done: what is admitted is done, the rest is refused and told when to come again.

How much is still done, and how fast the others are refused, is measured by `make overload`.
"""

import asyncio
from collections import Counter
from pathlib import Path

import grpc

from faults.annotating import annotate
from faults.harness import FaultySuite, Finding
from shoppable.client import MatcherClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, product_matcher_pb2
from support.catalogs import CATALOG

FILMS = 48  # three times what is admitted
SEARCHES = 300


async def test_films_beyond_the_limit_are_refused_and_those_within_are_whole(
    faulty: FaultySuite, samples: Path, fault: Finding
):
    film = samples / "film.mp4"
    alone = await annotate(faulty.endpoint("orchestrator"), film, seconds=1, timeout_s=60)
    endings = await asyncio.gather(
        *(annotate(faulty.endpoint("orchestrator"), film, seconds=1, timeout_s=110) for _ in range(FILMS))
    )
    codes = Counter(ending.seen for ending in endings)
    assert codes.keys() <= {"the whole list", "RESOURCE_EXHAUSTED"}, codes
    assert codes["the whole list"] >= 16  # `max_concurrent_calls`
    for ending in endings:
        if ending.error is None:
            assert ending.found == alone.found
            assert not ending.summary.frames_failed
        else:
            assert ending.error.retry_after_s
    assert codes["RESOURCE_EXHAUSTED"]
    fault.fault = f"{FILMS} films at once"
    fault.caller_sees = ", ".join(f"{count} {seen}" for seen, count in codes.most_common())


async def test_searches_beyond_the_limit_are_refused_and_those_within_answered(
    faulty: FaultySuite, samples: Path, fault: Finding
):
    picture = min(samples.rglob("*.jpg")).read_bytes()
    request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
    request.queries.add().views.add(image=common_pb2.Image(data=picture))

    async def search(matcher: MatcherClient) -> str:
        try:
            response = await matcher.match(request, timeout_s=100)
        except ShoppableError as error:
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED, error
            assert error.retry_after_s
            return error.code.name
        assert response.results[0].products
        return "answered"

    async with open_channel(faulty.endpoint("matcher")) as channel:
        matcher = MatcherClient(channel)
        codes = Counter(await asyncio.gather(*(search(matcher) for _ in range(SEARCHES))))
    assert codes["answered"]
    fault.fault = f"{SEARCHES} searches at once"
    fault.caller_sees = ", ".join(f"{count} {seen}" for seen, count in codes.most_common())
