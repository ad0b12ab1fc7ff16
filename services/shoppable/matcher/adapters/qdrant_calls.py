"""How we speak to a Qdrant server: the client, a time limit for every call, and its errors as ours."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import structlog
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from shoppable.matcher.filters import AnyOf, Condition, Contains, NoneOf, OneOf, Within
from shoppable.runtime import metrics
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import (
    DeadlineExceededError,
    ExhaustedError,
    FailedPreconditionError,
    InternalError,
    ServiceError,
    UnavailableError,
)
from shoppable.runtime.spans import asking

_log = structlog.get_logger(__name__)
# The client's own default is no limit. Our largest answer is a page of 1000 products with their texts.
_MAX_MESSAGE_BYTES = 64 * 2**20
_UNREACHABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED}
# Our requests are well formed: what is refused does not fit the vectors, indexes or version that the server has.
_OTHER_SCHEMA = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


@contextlib.asynccontextmanager
async def connect(
    endpoint: str, *, api_key: str | None, tls: bool, timeout_s: float
) -> AsyncIterator[AsyncQdrantClient]:
    """Open a client of a server at host:port of its gRPC interface. It connects when it is first used."""
    host, _, port = endpoint.rpartition(":")
    client = AsyncQdrantClient(
        host=host.strip("[]"),
        grpc_port=int(port),
        prefer_grpc=True,
        https=tls,
        api_key=api_key,
        timeout=math.ceil(timeout_s),
        check_compatibility=False,  # it asks over HTTP, which may not be reachable
        grpc_options={
            "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
            "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
            "grpc.enable_http_proxy": 0,
            "grpc.initial_reconnect_backoff_ms": 200,
            "grpc.max_reconnect_backoff_ms": 2000,
        },
    )
    try:
        yield client
    finally:
        await client.close()


class QdrantCalls:
    """Makes calls within the time that is left, and turns what the client raises into our errors."""

    def __init__(self, client: AsyncQdrantClient, *, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def call(
        self, operation: str, make: Callable[[], Awaitable[Any]], *, missing: Exception | None = None
    ) -> Any:
        """Return what the call returns.

        Raises:
            UnavailableError, ExhaustedError, DeadlineExceededError, FailedPreconditionError, InternalError
            missing: The collection does not exist.
        """
        limit_s = remaining_s(self._timeout_s)
        with metrics.INDEX_SECONDS.labels(operation).time(), asking("qdrant", operation):
            try:
                # The client counts in whole seconds: the true limit is ours.
                return await asyncio.wait_for(make(), limit_s)
            except TimeoutError as error:
                if limit_s < self._timeout_s:
                    raise DeadlineExceededError from error
                raise _unavailable(operation, f"no answer within {limit_s:g} s") from error
            except Exception as error:
                if missing is not None and _says_missing(error):
                    raise missing from error
                raise translate(operation, error) from error

    async def create(self, collection: str, how: Mapping[str, Any]) -> None:
        """Make a collection; one that is there already is left alone."""
        try:
            await self.call("create_collection", lambda: self._client.create_collection(collection, **how))
        except ServiceError:
            # Another matcher may have made it in this moment.
            if not await self.call("create_collection", lambda: self._client.collection_exists(collection)):
                raise

    async def index(self, collection: str, field: str, kind: models.PayloadSchemaType | models.TextIndexParams) -> None:
        """Index a field of the payload; one that is indexed already is left alone."""
        await self.call(
            "create_index", lambda: self._client.create_payload_index(collection, field, field_schema=kind, wait=True)
        )


def conditions(where: Sequence[Condition]) -> models.Filter | None:
    """Return conditions as Qdrant's."""
    return models.Filter(must=[_condition(condition) for condition in where]) if where else None


def _condition(condition: Condition) -> models.Condition:
    match condition:
        case AnyOf():
            return models.FieldCondition(key=condition.field, match=models.MatchAny(any=condition.listed()))
        case Within():
            return models.FieldCondition(key=condition.field, range=models.Range(gte=condition.low, lte=condition.high))
        case Contains():
            return models.FieldCondition(key=condition.field, match=models.MatchSubstring(substring=condition.text))
        case OneOf():
            return models.Filter(should=_groups(condition.groups))
        case NoneOf():
            return models.Filter(must_not=_groups(condition.groups))


def _groups(groups: Sequence[Sequence[Condition]]) -> list[models.Condition]:
    return [models.Filter(must=[_condition(condition) for condition in group]) for group in groups]


def translate(operation: str, error: Exception) -> ServiceError:
    """Return the error that tells our caller what a client's exception means."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ResourceExhaustedResponse):
        return _exhausted(max(1, error.retry_after_s))
    code, text = _code_of(error), str(error)
    if isinstance(error, grpc.RpcError):
        text = getattr(error, "details", lambda: "")() or text
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(1.0)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED or code in _UNREACHABLE:
        return _unavailable(operation, text)
    if isinstance(error, (ResponseHandlingException, OSError)):
        return _unavailable(operation, text)
    if code in _REFUSED:
        _log.error("the Qdrant server refused us", operation=operation, error=text)
        return UnavailableError(
            "the index refuses this server: its operator must check qdrant_api_key and its rights",
            reason="INDEX_REFUSED",
            retry_after_s=30.0,
        )
    if "No space left" in text or "disk" in text.lower():
        _log.error("the Qdrant server cannot store", operation=operation, error=text)
        return FailedPreconditionError(
            "the index takes no more: make room on the Qdrant server; what was answered before is kept",
            reason="STORAGE_FULL",
        )
    if code in _OTHER_SCHEMA:
        _log.error("the Qdrant server has something else than we made", operation=operation, error=text)
        return FailedPreconditionError(
            "the index's server or collection is not as this version needs it, which is Qdrant 1.20 or later with"
            " collections that it made itself: its operator finds the reason in the log",
            reason="INDEX_SCHEMA",
        )
    _log.error("the Qdrant server failed", operation=operation, error=text, kind=type(error).__name__)
    return InternalError("the index answered in a way that this version does not understand", reason="INDEX_FAILED")


def _says_missing(error: Exception) -> bool:
    if _code_of(error) == grpc.StatusCode.NOT_FOUND:
        return True
    # The client's own engine, which tests run on, and the HTTP interface.
    local = isinstance(error, ValueError) and "not found" in str(error)
    return local or (isinstance(error, UnexpectedResponse) and error.status_code == 404)


def _code_of(error: Exception) -> grpc.StatusCode | None:
    if not isinstance(error, grpc.RpcError):
        return None
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def _exhausted(retry_after_s: float) -> ExhaustedError:
    return ExhaustedError(
        "the index is at its limit; try again after the delay", reason="INDEX_EXHAUSTED", retry_after_s=retry_after_s
    )


def _unavailable(operation: str, text: str) -> UnavailableError:
    _log.warning("the Qdrant server is away", operation=operation, error=text)
    return UnavailableError("the index cannot be reached now; try again after the delay", reason="INDEX_UNAVAILABLE")
