"""A worker's two threads at one socket: one waits for a slot, the other for bytes."""

import pickle
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.workers.link import DistantFile, Link, ServiceGoneError
from shoppable.decoder.workers.protocol import DATA, FREE, PLACE, Job, Limits, Slots

GUARDS = Guards((), (), 1, 1, 1, 1.0, 1)


@pytest.fixture
def service():
    service, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with service, worker:
        service.settimeout(5)
        service.send(pickle.dumps(Job("decode", GUARDS, Limits(1), slots=Slots(1, 4096))))
        link = Link(worker)
        link.receive_job()
        assert link.free_slot() == 0
        yield service, link


@pytest.mark.parametrize("slot_first", [True, False])
def test_each_thread_gets_what_it_waits_for_whichever_comes_first(service, slot_first):
    other, link = service
    with ThreadPoolExecutor(2) as threads:
        slot = threads.submit(link.free_slot)
        bytes_read = threads.submit(DistantFile(link, seekable=True).read, 100)
        assert other.recv(1000) == b'{"size": 100, "kind": "read"}'
        messages = [FREE + b"\0", DATA + b"some"]
        for message in messages if slot_first else reversed(messages):
            other.send(message)
        assert slot.result(5) == 0
        assert bytes_read.result(5) == b"some"


def test_both_threads_hear_that_the_service_is_gone(service):
    other, link = service
    with ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(link.free_slot), threads.submit(DistantFile(link, seekable=True).read, 100)]
        other.recv(1000)
        other.close()
        for wait in waits:
            with pytest.raises(ServiceGoneError):
                wait.result(5)


def test_a_distant_file_knows_its_place(service):
    other, link = service
    file = DistantFile(link, seekable=False)
    assert not file.seekable()
    for answer in (PLACE + b"7", DATA + b"abc", PLACE + b"-1", DATA):
        other.send(answer)
    assert file.seek(7) == 7
    assert file.read(3) == b"abc"
    assert file.tell() == 10
    assert file.seek(-5) == -1
    assert file.tell() == 10
    assert file.read(3) == b""
