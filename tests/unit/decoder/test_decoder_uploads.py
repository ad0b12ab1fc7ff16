"""Bytes that arrive: what is decoded as it comes, what is collected first, and how much of it is held."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.decoder.containers import can_stream
from shoppable.decoder.errors import RefusedVideoError, StoppedError
from shoppable.decoder.uploads import Upload, UploadLimits
from support import videos
from support.videos import Clip, encode

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
STREAMED = {
    "an mp4 with its index first": Clip(),
    "an mp4 in fragments": Clip(container_options=FRAGMENTS),
    "an mp4 in dash fragments": Clip(container_options={"movflags": "dash+global_sidx"}),
    "mpegts": Clip(container="mpegts"),
    "matroska": Clip(container="matroska"),
    "webm": Clip(container="webm", **VP9),
}
COLLECTED = {
    "an mp4 with its index last": Clip(index_first=False),
    "avi": Clip(container="avi", codec="mpeg4"),
    "gif": Clip(container="gif", codec="gif", pixel_format="rgb8"),
}
TS = encode(Clip(container="mpegts"))


@pytest.mark.parametrize("name", STREAMED)
def test_a_container_that_streams_is_known_by_its_head(name):
    assert can_stream(encode(STREAMED[name])[:4096]) is True


@pytest.mark.parametrize("name", COLLECTED)
def test_a_container_that_must_be_whole_is_known_by_its_head(name):
    assert can_stream(encode(COLLECTED[name])[:4096]) is False


@pytest.mark.parametrize("file", [TS, TS[100:], encode(Clip()), encode(Clip(index_first=False)), b"text " * 200])
def test_more_bytes_do_not_change_what_was_known(file):
    verdicts = [can_stream(file[:size]) for size in range(0, 1200, 7)]
    known = [verdict for verdict in verdicts if verdict is not None]
    assert known
    assert set(known) == {known[0]}
    assert verdicts == [None] * (len(verdicts) - len(known)) + known


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\0ftyp" + bytes(2000),  # a box up to the end
        b"\0\0\0\7ftyp" + bytes(2000),
        b"\0\0\0\1free" + bytes(8) + bytes(2000),
        b"\0\0\0\x08free" * 10 + b"\0\0\0\x08mdat" + bytes(2000),
        b"\0\0\0\x08ftyp\0\0\0\x08moof" + bytes(2000),
        b"\0\0\0\x08ftyp\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(2000),
    ],
)
def test_boxes_that_make_no_sense_are_no_stream(head):
    assert can_stream(head) is False


@given(st.binary(max_size=300) | st.binary(max_size=40).map(b"\0\0\0\x08ftyp".__add__))
def test_any_bytes_have_a_verdict(head):
    assert can_stream(head) in {True, False, None}


LIMITS = UploadLimits(max_bytes=1_000_000, spool_bytes=100, scratch_dir=None, window_bytes=10_000)


def new_upload(limits: UploadLimits = LIMITS, *, total: int | None = None, **options: bool) -> Upload:
    return Upload(limits, asyncio.get_running_loop(), total_bytes=total, total_field="total", **options)


async def these(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def in_pieces(data: bytes, size: int = 1000) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def read_all(upload: Upload, stop: threading.Event | None = None) -> bytes:
    with upload.open(stop or threading.Event()) as opened:
        parts = []
        while part := opened.file.read(4000):
            parts.append(part)
        return b"".join(parts)


@pytest.mark.parametrize("file", [TS, encode(Clip(index_first=False)), b"no video" * 2000, b"x"])
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 10**6])
async def test_what_is_read_is_what_came(file, chunk_bytes):
    file = file[: 3000 * chunk_bytes]
    upload = new_upload(total=len(file))
    filling = asyncio.create_task(upload.fill(these(in_pieces(file, chunk_bytes))))
    assert await asyncio.to_thread(read_all, upload) == file
    await filling
    upload.close()


async def test_a_reader_that_stands_still_stops_the_sender_and_the_window_is_all_that_is_held():
    upload, sent = new_upload(live=True), 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += len(TS)
            yield TS

    filling = asyncio.create_task(upload.fill(endless()))
    opened = await asyncio.to_thread(upload.open, threading.Event())
    assert opened.size_bytes is None
    assert not opened.seekable
    for _ in range(500):
        await asyncio.to_thread(opened.file.read, len(TS))
        assert upload._waiting_bytes <= LIMITS.window_bytes + len(TS)
    taken = opened.file.tell()
    await asyncio.sleep(0.05)
    assert taken > 20 * LIMITS.max_bytes / 4
    assert sent - taken <= LIMITS.window_bytes + 2 * len(TS)
    assert upload._spool is None
    filling.cancel()


async def test_only_the_beginning_can_be_read_again():
    upload = new_upload(UploadLimits(10**9, 100, None, 10**6), live=True)
    filling = asyncio.create_task(upload.fill(these([TS[:1880]] + [bytes(10**6)] * 8)))
    opened = await asyncio.to_thread(upload.open, threading.Event())
    assert opened.file.read(1000) == TS[:1000]
    assert opened.file.seek(0) == 0
    assert opened.file.read(500) + opened.file.read(500) == TS[:1000]
    assert await asyncio.to_thread(opened.file.seek, 0, io.SEEK_END) == 8_001_880  # reads to the end
    with pytest.raises(io.UnsupportedOperation):
        opened.file.seek(0)
    with pytest.raises(io.UnsupportedOperation):
        opened.file.seek(100)
    await filling


@pytest.mark.parametrize("file", [TS, bytes(100_000)])
async def test_an_upload_that_is_too_large_is_refused_with_limit_and_value(file):
    upload = new_upload(UploadLimits(50_000, 100, None, 10_000))
    filling = asyncio.create_task(upload.fill(these(in_pieces(file * 4, 1001))))
    with pytest.raises(RefusedVideoError) as caught:
        await asyncio.to_thread(read_all, upload)
    assert (caught.value.reason, caught.value.metadata["limit"]) == ("SIZE_LIMIT", "50000")
    assert 50_000 < int(caught.value.metadata["value"]) <= 51_001
    await filling
    upload.close()


@pytest.mark.parametrize("file", [TS[:20_000], bytes(20_000)])
@pytest.mark.parametrize("total", [19_999, 20_001])
async def test_an_upload_of_another_size_than_announced_is_refused(file, total):
    upload = new_upload(total=total)
    filling = asyncio.create_task(upload.fill(these(in_pieces(file))))
    with pytest.raises(RefusedVideoError) as caught:
        await asyncio.to_thread(read_all, upload)
    assert (caught.value.reason, caught.value.violations[0].field) == ("SIZE_MISMATCH", "total")
    await filling
    upload.close()


async def test_what_goes_wrong_comes_after_the_bytes_before_it():
    upload = new_upload()

    async def breaks_off() -> AsyncIterator[bytes]:
        yield TS[:5000]
        raise RuntimeError("gone")

    filling = asyncio.create_task(upload.fill(breaks_off()))
    opened = await asyncio.to_thread(upload.open, threading.Event())
    assert await asyncio.to_thread(opened.file.read, 9000) == TS[:5000]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="gone"):
            await asyncio.to_thread(opened.file.read, 9000)
    await filling


@pytest.mark.parametrize("file", [TS, encode(Clip(index_first=False))])
async def test_a_reader_that_waits_can_be_stopped(file):
    upload, stop = new_upload(), threading.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield file[:4000]
        await asyncio.Event().wait()

    filling = asyncio.create_task(upload.fill(stalls()))
    reading = asyncio.create_task(asyncio.to_thread(read_all, upload, stop))
    await asyncio.sleep(0.05)
    assert not reading.done()
    stop.set()
    async with asyncio.timeout(2):
        with pytest.raises(StoppedError):
            await reading
    filling.cancel()
    upload.close()


async def test_a_reader_that_seeks_gets_a_whole_file():
    upload = new_upload(seekable=True)
    filling = asyncio.create_task(upload.fill(these(in_pieces(TS))))
    opened = await asyncio.to_thread(upload.open, threading.Event())
    assert filling.done()
    assert opened.seekable
    assert opened.size_bytes == len(TS)
    assert opened.file.seek(-10, io.SEEK_END) == len(TS) - 10
    upload.close()


@pytest.mark.parametrize("file", [encode(Clip(index_first=False)), b"no video" * 2000, videos.sound_only()[:30]])
async def test_what_is_live_and_cannot_stream_is_refused(file):
    upload = new_upload(live=True)
    filling = asyncio.create_task(upload.fill(these(in_pieces(file))))
    with pytest.raises(RefusedVideoError) as caught:
        await asyncio.to_thread(upload.open, threading.Event())
    assert caught.value.reason == "NOT_STREAMABLE"
    await filling


async def test_a_disk_that_fails_is_told(tmp_path):
    limits = UploadLimits(10**6, 10, tmp_path / "none", 10_000)
    upload = new_upload(limits)
    filling = asyncio.create_task(upload.fill(these([bytes(5000)])))
    with pytest.raises(Exception, match="stored now"):
        await asyncio.to_thread(upload.open, threading.Event())
    await filling
