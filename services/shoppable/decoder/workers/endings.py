"""How a worker ends, as its caller is told."""

import signal

import structlog

from shoppable.decoder.errors import BrokenVideoError, RefusedVideoError
from shoppable.decoder.faults import WORK_LIMIT
from shoppable.decoder.workers.protocol import NOT_FORKED, Bug, Fault, Job
from shoppable.runtime.errors import DataLossError, InternalError, ServiceError, UnavailableError

_MAX_TEXT = 1000  # characters: a worker is not trusted
_log = structlog.get_logger(__name__)


def error_of_fault(fault: Fault, job: Job, field: str) -> ServiceError:
    """Return the error for what a worker found wrong; `field` is the path of the source in the request."""
    text = fault.text[:_MAX_TEXT]
    match fault.fault:
        case "refused":
            return RefusedVideoError(field, text, reason=fault.reason[:50], limit=fault.limit, value=fault.value)
        case "broken":
            return BrokenVideoError(text)
        case "unreadable":
            return UnavailableError(text, reason="FILE_SYSTEM_FAILED")
        case "exhausted":
            limit = job.limits.memory_bytes
            return RefusedVideoError(
                field, f"must be decoded in at most {limit} bytes of memory", reason="MEMORY_LIMIT", limit=limit
            )


def error_of_bug(bug: Bug) -> ServiceError:
    """Return the error for what nobody thought of, and log where it happened."""
    _log.error("a worker failed", traceback=bug.traceback)
    return InternalError("the video cannot be decoded for a reason that the logs have", reason="WORKER_FAILED")


def error_of_misbehaviour() -> ServiceError:
    """Return the error for a worker that says what makes no sense, as one that was taken over might."""
    _log.error("a worker broke its protocol")
    return InternalError("the process that decoded the video misbehaved", reason="WORKER_FAILED")


def error_of_exit(status: int | None, job: Job, field: str) -> ServiceError:
    """Return the error for a worker that ended without a word, and log it.

    Args:
        status: Its exit code, negative for a signal; None if its fork server is gone too.
        job: What it did.
        field: The path of the source in the request.
    """
    if status is None or status == NOT_FORKED:
        return UnavailableError("no process can decode the video now", reason="NO_WORKER")
    if status == -signal.SIGXCPU:
        limit = int(job.guards.max_idle_work_s)
        text = f"must give a frame for each {limit} s of work, and hung"
        return RefusedVideoError(field, text, reason=WORK_LIMIT, limit=limit)
    if status == -signal.SIGKILL:
        _log.error("a worker was killed from outside")
        return UnavailableError("the process that decoded the video was killed", reason="WORKER_KILLED")
    if status < 0:
        name = signal.Signals(-status).name
        _log.error("a worker crashed", signal=name)
        return DataLossError("the codec crashed on the video", reason="DECODER_CRASHED", metadata={"signal": name})
    _log.error("a worker ended without a word", status=status)
    return InternalError("the process that decoded the video ended", reason="WORKER_FAILED")
