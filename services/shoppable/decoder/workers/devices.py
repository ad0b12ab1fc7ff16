"""Finds out whether there is a GPU to decode on, in a worker: a GPU's driver must not be loaded before a fork."""

import asyncio
import pickle
from dataclasses import replace
from typing import Literal

import structlog

from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.workers.fleet import Fleet
from shoppable.decoder.workers.protocol import MAX_REPORT_BYTES, Device, Job, Limits
from shoppable.decoder.workers.reports import decode

Wish = Literal["none", "cuda", "auto"]
_LIMIT_S = 60.0
_DEVICE = "cuda"
_log = structlog.get_logger(__name__)


async def find_device(wish: Wish, fleet: Fleet, guards: Guards, limits: Limits) -> str | None:
    """Return the kind of device that decodes, or None for software. Logs what was found, unless none is wished for.

    Raises:
        UnavailableError: No worker can be had.
    """
    if wish == "none":
        return None
    failure = await _failure(fleet, Job("find device", replace(guards, device=_DEVICE), limits))
    if failure is not None:
        log = _log.warning if wish == "cuda" else _log.info
        log("no GPU to decode on: decoding in software", hardware=wish, error=failure)
        return None
    _log.info("decoding on a GPU what it can decode", hardware=wish)
    _log.warning("workers that decode on a GPU are not confined: its driver opens files as it needs them")
    return _DEVICE


async def _failure(fleet: Fleet, job: Job) -> str | None:
    loop = asyncio.get_running_loop()
    async with fleet.worker() as worker:
        await loop.sock_sendall(worker.connection, pickle.dumps(job))
        try:
            async with asyncio.timeout(_LIMIT_S):
                report = decode(await loop.sock_recv(worker.connection, MAX_REPORT_BYTES))
        except (TimeoutError, OSError, ValueError) as error:
            return type(error).__name__
    return report.failure if isinstance(report, Device) else "nothing was found out"
