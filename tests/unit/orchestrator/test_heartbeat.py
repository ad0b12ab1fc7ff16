"""Progress is told at its pace, whatever the events wait for; nothing is lost or told in another order."""

import asyncio
import contextlib

import pytest

from shoppable.orchestrator.heartbeat import with_progress

OFTEN_S = 0.01


async def test_progress_goes_on_while_an_event_is_long_in_coming():
    enough, told = asyncio.Event(), []

    async def events():
        yield "video"
        await enough.wait()
        yield "object"

    async for item in with_progress(events(), lambda: "progress", every_s=OFTEN_S):
        told.append(item)
        if told.count("progress") == 3:
            enough.set()
    assert told[0] == "video"
    assert told.count("object") == 1
    assert told[1:4] == ["progress"] * 3


async def test_progress_goes_on_between_events_that_come_without_a_pause():
    over = asyncio.Event()

    async def events():
        while not over.is_set():
            await asyncio.sleep(0)
            yield "object"

    seen = 0
    async for item in with_progress(events(), lambda: "progress", every_s=OFTEN_S):
        seen += item == "progress"
        if seen == 3:
            over.set()
    assert seen >= 3


async def test_a_step_that_makes_nothing_known_is_not_told():
    async def steps():
        for event in (None, "video", None, None, "object", None):
            yield event

    told = [item async for item in with_progress(steps(), lambda: "progress", every_s=3600)]
    assert told == ["video", "object"]


async def test_nothing_is_told_while_there_is_nothing_to_tell():
    asked = asyncio.Event()

    def progress():
        asked.set()

    async def events():
        await asked.wait()
        yield "video"

    assert [item async for item in with_progress(events(), progress, every_s=OFTEN_S)] == ["video"]


async def test_what_the_work_raises_comes_after_what_it_told():
    async def events():
        yield "video"
        raise OSError

    told = []
    with pytest.raises(OSError):
        async for item in with_progress(events(), lambda: None, every_s=OFTEN_S):
            told.append(item)
    assert told == ["video"]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_reader_that_leaves_ends_the_work(waits: bool):
    ended = asyncio.Event()

    async def events():
        try:
            yield "video"
            while True:
                if waits:
                    await asyncio.sleep(3600)
                yield "object"
        finally:
            ended.set()

    work = events()
    async with (
        contextlib.aclosing(work),
        contextlib.aclosing(with_progress(work, lambda: "p", every_s=OFTEN_S)) as told,
    ):
        async for item in told:
            if item == ("p" if waits else "object"):
                break
    assert ended.is_set()
