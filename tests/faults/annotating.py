"""A second of the sample film, annotated while something is wrong."""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from faults.harness import RECOVERY_LIMIT_S
from shoppable.client import OrchestratorClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2
from support.catalogs import CATALOG

Named = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Ending:
    """How a call ended: with a list, or an error."""

    found: Named | None  # label and first product of each object
    summary: orchestrator_pb2.AnnotateSummary | None
    error: ShoppableError | None
    took_s: float

    @property
    def seen(self) -> str:
        """What the caller got, in a word."""
        if self.error is None:
            return "the whole list"
        return self.error.code.name

    @property
    def refused_well(self) -> bool:
        """Whether the error is one that tells to come again, or the caller's own deadline."""
        if self.error is None:
            return False
        if self.error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return True
        return self.error.code is grpc.StatusCode.UNAVAILABLE


async def annotate(address: str, film: Path, *, timeout_s: float = 30, seconds: int = 2) -> Ending:
    """Annotate the first seconds of a film by its URI."""
    options = orchestrator_pb2.AnnotateOptions(
        catalog=CATALOG,
        sampling=common_pb2.FrameSampling(frames_per_second=3),
        end_time={"seconds": seconds},
        omit_thumbnails=True,
    )
    source = common_pb2.VideoSource(uri=film.as_uri())
    started = time.monotonic()
    async with open_channel(address) as channel:
        try:
            # What is over its deadline must end by itself; the second limit is for a call that hangs.
            async with asyncio.timeout(timeout_s + 10):
                answer = await OrchestratorClient(channel).annotate(source, options, timeout_s=timeout_s)
        except ShoppableError as error:
            return Ending(None, None, error, time.monotonic() - started)
    return Ending(named(answer), answer.summary, None, time.monotonic() - started)


async def annotate_until_well(address: str, film: Path) -> Ending:
    """Annotate again and again, as a caller does who is told to; `took_s` runs from now to the list.

    Raises:
        TimeoutError: `RECOVERY_LIMIT_S` was not enough.
    """
    started = time.monotonic()
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        while True:
            ending = await annotate(address, film)
            if ending.error is None:
                return replace(ending, took_s=time.monotonic() - started)
            assert ending.refused_well, ending.error
            await asyncio.sleep(ending.error.retry_after_s or 0.2)


def named(answer: orchestrator_pb2.AnnotateVideoResponse) -> Named:
    """What is in the list, whatever its order."""
    return frozenset(
        (found.label, found.products[0].product.name if found.products else "") for found in answer.objects
    )
