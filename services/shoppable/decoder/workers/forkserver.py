"""Forks workers: `python -m shoppable.decoder.workers.forkserver DESCRIPTOR`, started by `fleet`.

It has one thread, opens no video, and holds nothing but its socket to the service, so that a fork takes a millisecond
and a worker inherits no secret, no connection and no other's video. It ends when the service is gone, and its workers
with it.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from shoppable.decoder.workers import sandbox, seccomp, worker
from shoppable.decoder.workers.protocol import COMMAND, ENDED, KILL, NOT_FORKED, READY, READY_UNCONFINED

_WORKERS_SOCKET = 3  # its number in a worker


class ForkServer:
    """The loop. One thread."""

    def __init__(self, service: socket.socket, filter_program: bytes | None) -> None:
        self._service = service
        self._filter_program = filter_program
        self._workers: dict[int, int] = {}  # numbers by process
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._waker = waker  # kept open
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Work until the service is gone."""
        self._service.send(READY if self._filter_program is not None else READY_UNCONFINED)
        poll = select.poll()
        for each in (self._service, self._woken):
            poll.register(each, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
                self._reap()
            if self._service.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        """Do what the service says next; return whether it is still there."""
        data, descriptors, _, _ = socket.recv_fds(self._service, COMMAND.size, 1)
        if not data:
            return False
        command, number = COMMAND.unpack(data)
        if command == KILL:
            for process, known in self._workers.items():
                if known == number:
                    os.kill(process, signal.SIGKILL)  # not reaped yet, so it is no other's number
            return True
        try:
            process = os.fork()
        except OSError:
            self._service.send(ENDED.pack(number, NOT_FORKED))
        else:
            if not process:
                _live(descriptors[0], self._filter_program)
            self._workers[process] = number
        os.close(descriptors[0])
        return True

    def _reap(self) -> None:
        while self._workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._service.send(ENDED.pack(self._workers.pop(process), os.waitstatus_to_exitcode(status)))


def _live(descriptor: int, filter_program: bytes | None) -> NoReturn:
    """Be a worker, just forked, to the end."""
    status = 1
    try:
        parent = os.getppid()
        sandbox.die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        os.dup2(descriptor, _WORKERS_SOCKET)
        os.closerange(_WORKERS_SOCKET + 1, 1 << 20)
        if os.getppid() == parent:  # or it ended before it was to take this process along
            worker.run(socket.socket(fileno=_WORKERS_SOCKET), filter_program)
        status = 0
    finally:
        os._exit(status)


def _is_taken(filter_program: bytes) -> bool:
    """Return whether the kernel, or what stands in for it in some containers, takes a filter: tried in a process."""
    process = os.fork()
    if not process:
        try:
            seccomp.install(filter_program)
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    return status == 0


def main(descriptor: int) -> None:
    """Serve the service at the other end of a socket."""
    # What a terminal or an init system sends to all processes of a service is the service's to act on.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker.load_all()
    program = seccomp.program()
    if program is not None and not _is_taken(program):
        program = None
    server = ForkServer(socket.socket(fileno=descriptor), program)
    gc.collect()
    gc.freeze()  # what is loaded stays shared with the workers
    gc.set_threshold(10_000)  # a film makes little that refers to itself
    with contextlib.suppress(ConnectionError):  # it went while it was told something
        server.serve()
    signal.set_wakeup_fd(-1)  # workers still end, and what their signals are written to is taken down


if __name__ == "__main__":
    main(int(sys.argv[1]))
