"""A worker is not trusted: what it says is checked, and what makes no sense ends its call."""

import asyncio
import io
import json
import pickle
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.inputs import OpenFile, in_memory
from shoppable.decoder.workers.distant_reading import DistantReading
from shoppable.decoder.workers.fleet import Worker
from shoppable.decoder.workers.protocol import FREE, Job, Limits, Slots
from shoppable.decoder.workers.session import Session
from shoppable.decoder.workers.slots import SlotMemory
from shoppable.runtime.errors import InternalError, UnavailableError

GUARDS = Guards(
    formats=("mp4",), codecs=("h264",), max_pixels=10**6, max_duration_ns=10**12, max_frames=10**6,
    max_idle_work_s=1, decode_threads=1,
)  # fmt: skip
PICTURE = {
    "kind": "picture", "slot": 0, "size_bytes": 12, "width": 2, "height": 2, "time_ns": 0, "keyframe": True,
    "scene_cut": False, "frames_decoded": 1, "damaged_packets": 0,
}  # fmt: skip


class Played:
    """A session whose worker is this test."""

    def __init__(self, opened: OpenFile, executor: ThreadPoolExecutor) -> None:
        ours, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.worker.settimeout(5)
        slots = Slots(count=2, bytes_each=4096)
        self.memory = SlotMemory(slots)
        self.ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        job = Job("decode", GUARDS, Limits(2**30), slots=slots)
        self.session = Session(
            Worker(ours, self.ended), job, self.memory, DistantReading(opened, executor), field="source"
        )
        self._ours = ours
        self.session.begin([self.memory.descriptor], [])
        assert pickle.loads(self.worker.recv(2**16)) == job

    def say(self, *reports: object) -> None:
        for report in reports:
            self.worker.send(report if isinstance(report, bytes) else json.dumps(report).encode())

    async def listen(self) -> bytes:
        return await asyncio.to_thread(self.worker.recv, 2**17)

    def close(self) -> None:
        self.session.close()
        self._ours.close()
        self.worker.close()
        self.memory.__exit__()


class FailingFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError("the disk is gone")


@pytest.fixture
async def played():
    with ThreadPoolExecutor(1) as executor:
        played = Played(in_memory(b"0123456789"), executor)
        yield played
        played.close()


NONSENSE = {
    "no json": b"\x00\xff",
    "an unknown kind": {"kind": "order"},
    "a field that lacks": {key: value for key, value in PICTURE.items() if key != "width"},
    "a slot that is not there": PICTURE | {"slot": 2},
    "a slot before the first": PICTURE | {"slot": -1},
    "more bytes than a slot has": PICTURE | {"size_bytes": 4097 * 3, "width": 4097, "height": 1},
    "fewer bytes than pixels": PICTURE | {"size_bytes": 11},
    "no size": PICTURE | {"width": 0, "size_bytes": 0},
    "a time before the start": PICTURE | {"time_ns": -1},
    "a device": {"kind": "device", "failure": None},
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_what_makes_no_sense_ends_the_call(played: Played, name):
    played.say(NONSENSE[name])
    with pytest.raises(InternalError) as caught:
        await anext(played.session)
    assert caught.value.reason == "WORKER_FAILED"


async def test_a_slot_that_is_looked_at_cannot_be_given_again(played: Played):
    played.say(PICTURE, PICTURE)
    await anext(played.session)
    with pytest.raises(InternalError):
        await anext(played.session)


async def test_two_wishes_at_a_time_end_the_call(played: Played):
    played.say(*[{"kind": "read", "size": 3}] * 2)
    with pytest.raises(InternalError):
        await anext(played.session)


async def test_a_slot_is_free_again_when_the_next_frame_is_asked_for(played: Played):
    played.say(PICTURE, PICTURE | {"slot": 1, "time_ns": 5})
    first = await anext(played.session)
    assert (first.index, first.picture.nbytes) == (0, 12)
    second = await anext(played.session)
    assert (second.index, second.time_ns) == (1, 5)
    assert await played.listen() == FREE + b"\0"
    with pytest.raises(ValueError, match="released"):
        bytes(first.picture)


async def test_wishes_are_answered_from_the_file(played: Played):
    played.say({"kind": "seek", "offset": 4, "whence": 0})
    assert await played.listen() == b"p4"
    played.say({"kind": "read", "size": 3})
    assert await played.listen() == b"d456"
    played.say({"kind": "seek", "offset": -1, "whence": 0})
    assert await played.listen() == b"p-1"
    played.say({"kind": "seek", "offset": 2**70, "whence": 0})
    assert await played.listen() == b"p-1"


async def test_a_file_that_fails_ends_the_call():
    with ThreadPoolExecutor(1) as executor:
        played = Played(OpenFile(FailingFile(b"x"), 1), executor)
        played.say({"kind": "read", "size": 3})
        with pytest.raises(UnavailableError) as caught:
            await anext(played.session)
        assert caught.value.reason == "FILE_SYSTEM_FAILED"
        played.close()


async def test_what_a_worker_said_before_it_ended_is_heard(played: Played):
    played.say(PICTURE)
    played.session._worker.connection.send(FREE + b"\0")  # which it does not read: its end is then a reset
    played.worker.close()
    played.ended.set_result(-11)
    assert (await anext(played.session)).index == 0
    with pytest.raises(Exception, match="crashed"):
        await anext(played.session)
