"""Lends shared memory through which tensors go to a Triton on this host, in place of copies inside gRPC messages.

A region is a file in /dev/shm that both sides map. One that is free is lent at once; if none is, the caller sends its
bytes over gRPC and one more region is made in the background, so that no request ever waits for this module or fails
because of it. Nobody locks a region: Triton may read it until it answers. So only an answer frees it. After anything
else (an error, a cancelled call, a broken connection) it is retired: its name is removed, Triton is asked to forget it
for as long as it says that it is in use, and its memory is never written again.

A process that dies leaves files. Each is locked for as long as its owner lives (the kernel sees to that, whatever kills
the owner, and across containers that share /dev/shm), so the next start removes those that nobody holds, and lets
Triton forget them.
"""

import asyncio
import contextlib
import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog
from tritonclient.utils import InferenceServerException

_log = structlog.get_logger(__name__)

FOLDER = Path("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory, and Triton looks for it
PREFIX = "shoppable-tensors-"
_RPC_TIMEOUT_S = 2.0
# After a refusal: long enough to cost nothing, short enough that a Triton restarted with other flags is noticed.
_REFUSED_RETRY_S = 30.0
_AWAY_RETRY_S = 1.0
_FORGET_RETRY_S = 0.1
_FORGET_RETRY_LIMIT_S = 5.0
_IN_USE = "in use"
_LINE_BYTES = 64


class RegionApi(Protocol):
    """The part of tritonclient's `InferenceServerClient` that is needed here."""

    async def register_system_shared_memory(
        self, name: str, key: str, byte_size: int, *, headers: Mapping[str, str], client_timeout: float
    ) -> None:
        """Let Triton map /dev/shm/`key`."""

    async def unregister_system_shared_memory(
        self, name: str, *, headers: Mapping[str, str], client_timeout: float
    ) -> None:
        """Let Triton forget it."""

    async def get_system_shared_memory_status(self, *, headers: Mapping[str, str], client_timeout: float) -> Any:
        """List what is registered, whoever did it."""


class Region:
    """One piece of shared memory, ours alone until it is lent. Its name tells nobody anything but the owner's pid."""

    def __init__(self, size: int) -> None:
        """Make it, with its memory: a full /dev/shm is told here, and not by a signal at the first write.

        Raises:
            OSError: There is no room, or no shared memory on this system.
        """
        self.name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(16)}"
        self.size = size
        self._path = FOLDER / self.name
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, size)
            self._memory = mmap.mmap(self._file, size)
        except BaseException:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            raise

    def write(self, arrays: Sequence[npt.NDArray[Any]]) -> list[int]:
        """Copy arrays, one behind the other, and return where each begins, in bytes."""
        offsets, offset = [], 0
        for array in arrays:
            place = np.frombuffer(self._memory, array.dtype, array.size, offset)
            place.reshape(array.shape)[...] = array
            offsets.append(offset)
            offset += padded_bytes(array)
        return offsets

    def remove(self) -> None:
        """Give up our side; what Triton has mapped stays until it forgets the region. May be called again."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            self._memory.close()
            os.close(self._file)
            self._file = -1


class SharedRegions:
    """The regions of one connection to Triton. Use on one event loop; close it."""

    def __init__(self, api: RegionApi, *, most_bytes: int, headers: Mapping[str, str]) -> None:
        """Take the connection; nothing is asked yet.

        Args:
            api: The connection.
            most_bytes: Of memory at any time, retired regions that Triton still uses included.
            headers: Sent with each request about regions: the key, where Triton restricts them.
        """
        self._api = api
        self._most_bytes = most_bytes
        self._headers = dict(headers)
        self._free: dict[int, list[Region]] = {}  # by size; the last one used is the next, being in the cache
        self._all: dict[str, Region] = {}  # registered, free or lent
        self._used_bytes = 0  # of all, and of retired ones that Triton has not forgotten
        self._tasks: set[asyncio.Task[None]] = set()
        self._growing = False
        self._swept = False
        self._not_before = 0.0  # time.monotonic() of the next attempt after a refusal
        self._refusal = ""

    def take(self, size: int) -> Region | None:
        """Lend a region of exactly `size` bytes until `give_back` or `retire`, or None if there is none now."""
        free = self._free.get(size)
        if free:
            return free.pop()
        room = size > 0 and self._used_bytes + size <= self._most_bytes
        if room and not self._growing and time.monotonic() >= self._not_before:
            self._growing = True
            self._start(self._grow(size))
        return None

    def give_back(self, region: Region) -> None:
        """Take a region back that Triton has answered for."""
        if region.name in self._all:
            self._free.setdefault(region.size, []).append(region)

    def retire(self, region: Region) -> None:
        """Take a region back that Triton may still read."""
        if self._all.pop(region.name, None) is not None:
            region.remove()
            self._start(self._forget(region))

    def lost(self, region: Region) -> None:
        """Take a region back that Triton does not know: it was restarted, and knows none of the others either."""
        if region.name not in self._all:
            return
        _log.info("triton has lost the shared memory, registering anew")
        self._swept = False
        self.retire(region)
        for idle in [idle for free in self._free.values() for idle in free]:
            self.retire(idle)
        self._free.clear()

    async def close(self) -> None:
        """Remove all; what Triton does not forget at once, the next start makes it forget."""
        self._not_before = float("inf")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        regions = list(self._all.values())
        self._all.clear()
        self._free.clear()
        for region in regions:
            region.remove()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RPC_TIMEOUT_S):
                await asyncio.gather(*map(self._unregister, (region.name for region in regions)))

    async def _grow(self, size: int) -> None:
        region: Region | None = None
        try:
            if not self._swept:
                await self._sweep()
                self._swept = True
            region = self._all_with(Region(size))
            await self._ask(self._api.register_system_shared_memory, region.name, f"/{region.name}", size)
            self._free.setdefault(size, []).append(region)
            if self._refusal or len(self._all) == 1:
                _log.info("tensors go to triton through shared memory")
            self._refusal = ""
        except (InferenceServerException, OSError) as error:
            if region is not None:
                self.retire(region)  # Triton may have mapped it before the answer was lost
            self._postpone(error)
        finally:
            self._growing = False

    def _all_with(self, region: Region) -> Region:
        self._all[region.name] = region
        self._used_bytes += region.size
        return region

    def _postpone(self, error: Exception) -> None:
        if isinstance(error, InferenceServerException) and _is_away(error):
            self._not_before = time.monotonic() + _AWAY_RETRY_S
            return
        self._not_before = time.monotonic() + _REFUSED_RETRY_S
        if str(error) != self._refusal:
            self._refusal = str(error)
            _log.info("no shared memory with triton, tensors go over gRPC", error=str(error))

    async def _forget(self, region: Region) -> None:
        """Unregister a region that is removed, for as long as it takes, and count its memory until then."""
        wait_s = _FORGET_RETRY_S
        while not await self._unregister(region.name):
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _FORGET_RETRY_LIMIT_S)
        self._used_bytes -= region.size

    async def _unregister(self, name: str) -> bool:
        """Return whether Triton does not have it any more. A Triton that refuses us has nothing of ours."""
        try:
            await self._ask(self._api.unregister_system_shared_memory, name)
        except InferenceServerException as error:
            return not _is_away(error) and _IN_USE not in (error.message() or "")
        return True

    async def _sweep(self) -> None:
        """Remove what dead processes have left, here and in Triton."""
        await asyncio.to_thread(remove_ownerless_regions)
        status = await self._ask(self._api.get_system_shared_memory_status)
        for name in list(status.regions):
            if name.startswith(PREFIX) and not (FOLDER / name).exists():
                await self._unregister(name)

    async def _ask(self, method: Any, *arguments: object) -> Any:
        call: Awaitable[Any] = method(*arguments, headers=self._headers, client_timeout=_RPC_TIMEOUT_S)
        return await call

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_away(error: InferenceServerException) -> bool:
    """Whether Triton did not answer; a restricted interface is UNAVAILABLE, too."""
    away = error.status() in {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED"}
    return away and "restricted" not in (error.message() or "")


def padded_bytes(array: npt.NDArray[Any]) -> int:
    """Return the room that an array takes in a region: whole cache lines, so that each begins well."""
    return -(-array.nbytes // _LINE_BYTES) * _LINE_BYTES


def remove_ownerless_regions() -> int:
    """Remove the regions whose owner is dead, and return how many there were. Blocking."""
    removed = 0
    for path in FOLDER.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # locked: its owner lives; or gone, or another user's
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
            finally:
                os.close(file)
    return removed
