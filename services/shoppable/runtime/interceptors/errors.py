"""The one place where errors become statuses."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator

import grpc
import structlog
from google.protobuf import message
from grpc_status import rpc_status

from shoppable.runtime.call import Call
from shoppable.runtime.errors import DeadlineExceededError, ExhaustedError, InternalError, ServiceError, to_status

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def error_mapping(call: Call) -> AsyncIterator[None]:
    """End the call with the status of the error that comes out of it; hide what is no ServiceError."""
    try:
        yield
    except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
        raise
    except ServiceError as error:
        await _abort(call, error)
    except TimeoutError:
        await _abort(call, DeadlineExceededError())
    except Exception as error:
        if _is_of_memory(error):
            _log.exception("out of memory")
            await _abort(call, ExhaustedError("this server has no memory left for it now", reason="OUT_OF_MEMORY"))
        else:
            _log.exception("unexpected error")
            hint = f"an internal error; the logs have it under request id {call.request_id}"
            await _abort(call, InternalError(hint, reason="INTERNAL", metadata={"request_id": call.request_id}))


def _is_of_memory(error: Exception) -> bool:
    """Tell whether it says that there is no memory: not all of Python does so by a MemoryError."""
    match error:
        case MemoryError():
            return True
        case OSError():
            return error.errno == errno.ENOMEM
        case RuntimeError():  # there is no room for a thread's stack
            return "can't start new thread" in str(error)
        case message.Error():  # Protobuf copies by writing and reading: what others wrote is read before a call's work
            return True
    return False


async def _abort(call: Call, error: ServiceError) -> None:
    if isinstance(error, InternalError):
        _log.error("call failed", reason=error.reason, detail=error.message)
    else:
        # In a flood, one line a call is enough: "call ended" has its code, and a metric counts the reasons.
        log = _log.debug if isinstance(error, ExhaustedError) else _log.info
        log("call refused", code=error.code.name, reason=error.reason, detail=error.message)
    await call.context.abort_with_status(rpc_status.to_status(to_status(error)))
