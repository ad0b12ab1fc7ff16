"""Files that threads open and read for workers: whatever ends the call, no thread waits on and nothing stays open."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shoppable.decoder.errors import StoppedError
from shoppable.decoder.inputs import FileRoots, OpenFile, in_memory
from shoppable.decoder.uploads import Upload, UploadLimits
from shoppable.decoder.workers.distant_reading import open_distantly
from shoppable.decoder.workers.protocol import DATA, PLACE, ReadWish, SeekWish
from support.videos import Clip, encode

FILM = encode(Clip(container="mpegts"))


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as executor:  # ends only when its threads do
        yield executor


def arriving() -> Upload:
    limits = UploadLimits(max_bytes=2**20, spool_bytes=0, scratch_dir=None, window_bytes=2**20)
    return Upload(limits, asyncio.get_running_loop(), total_bytes=None, total_field="total_bytes")


async def chunks_then(wait: asyncio.Event, *chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    await wait.wait()


async def test_what_arrives_is_neither_sought_nor_passed_on_and_its_end_tells_its_size(executor):
    ended, upload = asyncio.Event(), arriving()
    filling = asyncio.create_task(upload.fill(chunks_then(ended, FILM)))
    async with open_distantly(upload.open, executor) as reading:
        assert (reading.seekable, reading.size_bytes, reading.descriptor) == (False, None, None)
        assert await reading.answer(ReadWish(4)) == DATA + FILM[:4]
        assert await reading.answer(SeekWish(100, 0)) == PLACE + b"-1"
        assert await reading.answer(SeekWish(0, 0)) == PLACE + b"0"
        assert await reading.answer(ReadWish(4)) == DATA + FILM[:4]
        size = asyncio.ensure_future(reading.answer(SeekWish(0, 2)))
        await asyncio.sleep(0.05)
        assert not size.done()
        ended.set()
        assert await size == PLACE + str(len(FILM)).encode()
    await filling


async def test_a_file_is_passed_on(executor, tmp_path):
    (tmp_path / "film").write_bytes(b"0123")
    roots = FileRoots([tmp_path], max_bytes=10)

    def open_it(_: threading.Event) -> OpenFile:
        return roots.open(str(tmp_path / "film"), uri="", field="")

    async with open_distantly(open_it, executor) as reading:
        assert (reading.seekable, reading.size_bytes) == (True, 4)
        assert reading.descriptor is not None


async def test_the_end_of_a_call_ends_a_read_that_waits(executor):
    upload = arriving()
    filling = asyncio.create_task(upload.fill(chunks_then(asyncio.Event(), FILM)))
    async with open_distantly(upload.open, executor) as reading:
        size = asyncio.ensure_future(reading.answer(SeekWish(0, 2)))
        await asyncio.sleep(0.05)
    with pytest.raises(StoppedError):
        await size
    filling.cancel()


async def test_a_call_that_ends_while_its_file_is_opened_closes_it(executor):
    begun = threading.Event()
    opened = in_memory(b"0123")

    def open_late(stop: threading.Event) -> OpenFile:
        begun.set()
        assert stop.wait(10)  # then it is open all the same
        return opened

    async def call() -> None:
        async with open_distantly(open_late, executor):
            raise AssertionError("nobody waited for it")

    task = asyncio.create_task(call())
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert opened.file.closed


async def test_no_place_but_a_files_own_is_sought(executor):
    async with open_distantly(lambda _: in_memory(b"0123"), executor) as reading:
        for offset, whence in ((-1, 0), (2**70, 0), (0, 99)):
            assert await reading.answer(SeekWish(offset, whence)) == PLACE + b"-1"
