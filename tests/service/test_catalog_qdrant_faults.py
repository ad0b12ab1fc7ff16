"""The adapter of a Qdrant server against servers that are away, frozen, full or unwilling, over real gRPC.

What a willing server does is in test_catalog_index.py. Here the requests are built and sent as to a real one, so that
the client's translation to gRPC is run too.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qdrant_client import models

from shoppable.matcher.adapters import qdrant_calls
from shoppable.matcher.adapters.qdrant_collections import CollectionOptions
from shoppable.matcher.adapters.qdrant_server import QdrantServerIndex
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.ports import CatalogGoneError, Space
from shoppable.matcher.server import build
from shoppable.runtime.errors import (
    ExhaustedError,
    FailedPreconditionError,
    InternalError,
    ServiceError,
    UnavailableError,
)
from shoppable.runtime.server import serving
from shoppable.v1 import product_matcher_pb2
from support.catalog_points import LATER, change_of, euros, record_of, vector_of
from support.catalogs import MatcherClient, picture, reason_of, settings_of

Code = grpc.StatusCode
Work = Callable[[QdrantServerIndex], Awaitable[object]]
WANTED = ProductFilter(("c",), ("b",), "EUR", 1.0, None, (1, 2), (("color", ("red",)),)).conditions()
CHANGES = [change_of("a", images=("1", "2"), price=euros(1)), change_of("b", vectors=False, stale=("3",))]

FULL = CollectionOptions(3, 2, on_disk=True, quantization="binary", hnsw_m=32, hnsw_ef_construct=200, hnsw_ef=64)

WORK: dict[str, Work] = {
    "check": lambda index: index.check(),
    "get_catalog": lambda index: index.get_catalog("shop"),
    "list_catalogs": lambda index: index.list_catalogs(),
    "create_catalog": lambda index: index.create_catalog(record_of()),
    "delete_catalog": lambda index: index.delete_catalog("shop"),
    "advance": lambda index: index.advance("shop", attribute_keys={"k"}, updated=LATER),
    "count": lambda index: index.count("shop"),
    "write": lambda index: index.write("shop", CHANGES, revision=2),
    "delete_product": lambda index: index.delete_product("shop", "a", revision=2),
    "stored_images": lambda index: index.stored_images("shop", "a"),
    "get_products": lambda index: index.get_products("shop", ["a"], WANTED),
    "images_after": lambda index: index.images_after("shop", "", 5, WANTED),
    "product_ids": lambda index: index.product_ids("shop"),
    "search_text": lambda index: index.search_text("shop", "mug", where=WANTED, limit=3),
    "stored_products": lambda index: index.stored_products("shop", ["a"]),
    "stage": lambda index: index.stage(record_of()),
    "promote": lambda index: index.promote(record_of(), expected=3),
    "discard": lambda index: index.discard("shop.1"),
    "index_attributes": lambda index: index.index_attributes("shop", {"color"}),
    # Reached in real life only after the registry has answered.
    "insert_record": lambda index: index._put_record(record_of(), expected=None),
    "replace_record": lambda index: index._put_record(record_of(), expected=3),
    "create_collection": lambda index: index._calls.create("x", FULL.of_collection({"a": 3})),
    "create_index": lambda index: index._calls.index("x", "brand", models.PayloadSchemaType.KEYWORD),
    "search": lambda index: index.search("shop", Space.COLOUR, [vector_of(1)], where=WANTED, limit=3),
}


@contextlib.asynccontextmanager
async def answering(code: Code, text: str = "no", *, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A server that answers every call with an error; its address."""

    class Everything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
            async def refuse(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
                await context.abort(code, text)
                raise AssertionError

            return grpc.unary_unary_rpc_method_handler(refuse)  # type: ignore[arg-type]

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Everything(),))
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def index_at(endpoint: str, *, timeout_s: float = 5) -> AsyncIterator[QdrantServerIndex]:
    async with qdrant_calls.connect(endpoint, api_key=None, tls=False, timeout_s=timeout_s) as client:
        yield QdrantServerIndex(client, prefix="test", timeout_s=timeout_s, options=FULL)


@pytest.fixture
def frozen() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield f"127.0.0.1:{one.getsockname()[1]}"


@pytest.mark.parametrize(
    ("code", "text", "kind", "reason"),
    [
        (Code.UNAVAILABLE, "gone", UnavailableError, "INDEX_UNAVAILABLE"),
        (Code.DEADLINE_EXCEEDED, "slow", UnavailableError, "INDEX_UNAVAILABLE"),
        (Code.RESOURCE_EXHAUSTED, "rate limit", ExhaustedError, "INDEX_EXHAUSTED"),
        (Code.UNAUTHENTICATED, "no key", UnavailableError, "INDEX_REFUSED"),
        (Code.PERMISSION_DENIED, "read only", UnavailableError, "INDEX_REFUSED"),
        (Code.INTERNAL, "No space left on device", FailedPreconditionError, "STORAGE_FULL"),
        (Code.INTERNAL, "secret path /srv", InternalError, "INDEX_FAILED"),
        (Code.INVALID_ARGUMENT, "vector size", FailedPreconditionError, "INDEX_SCHEMA"),
        (Code.UNIMPLEMENTED, "no such method", FailedPreconditionError, "INDEX_SCHEMA"),
    ],
)
async def test_every_operation_tells_what_the_server_said(
    code: Code, text: str, kind: type[ServiceError], reason: str
) -> None:
    async with answering(code, text) as endpoint, index_at(endpoint) as index:
        for name, work in WORK.items():
            with pytest.raises(kind) as caught:
                await work(index)
            assert caught.value.reason == reason, name
            assert text not in caught.value.message, name


async def test_a_collection_that_is_missing_is_a_catalogue_that_is_gone() -> None:
    async with answering(Code.NOT_FOUND, "collection not found") as endpoint, index_at(endpoint) as index:
        for name in (
            "count",
            "write",
            "delete_product",
            "stored_images",
            "get_products",
            "images_after",
            "product_ids",
            "search",
            "search_text",
        ):
            with pytest.raises(CatalogGoneError):
                await WORK[name](index)


async def test_a_server_that_is_away_is_unavailable_at_once() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{one.getsockname()[1]}"
    async with index_at(endpoint) as index:
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            await index.check()
        assert time.monotonic() - started < 3


async def test_a_server_that_comes_back_is_met_without_a_restart() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{one.getsockname()[1]}"
    async with index_at(endpoint) as index:
        with pytest.raises(UnavailableError):
            await index.count("shop")
        async with answering(Code.RESOURCE_EXHAUSTED, address=endpoint), asyncio.timeout(20):
            while True:
                try:
                    await index.count("shop")
                except ExhaustedError:  # the new one's answer
                    break
                except UnavailableError:
                    await asyncio.sleep(0.05)


async def test_a_frozen_server_is_unavailable_in_time(frozen: str) -> None:
    async with index_at(frozen, timeout_s=0.3) as index:
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            await index.check()
        assert time.monotonic() - started < 3


async def test_calls_end_by_the_callers_deadline_on_a_frozen_server(
    frozen: str, tmp_path: Path, triton_endpoint: str
) -> None:
    settings = settings_of(
        tmp_path, triton_endpoint, index="server", qdrant_endpoint=frozen, index_timeout_s=20, health_timeout_s=0.3
    )
    async with serving(settings, build) as (_, address), grpc.aio.insecure_channel(address) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        client = MatcherClient(channel)
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(_match(client, timeout_s=0.5), 10)
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 5


async def test_a_server_that_is_away_is_told_to_callers(tmp_path: Path, triton_endpoint: str) -> None:
    async with answering(Code.UNAVAILABLE) as endpoint:
        settings = settings_of(tmp_path, triton_endpoint, index="server", qdrant_endpoint=endpoint)
        async with serving(settings, build) as (_, address), grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await MatcherClient(channel).match(picture(1))
    assert caught.value.code() is Code.UNAVAILABLE
    assert reason_of(caught.value) == "INDEX_UNAVAILABLE"


async def _match(client: MatcherClient, *, timeout_s: float) -> object:
    request = product_matcher_pb2.MatchProductsRequest(catalog="catalogs/shop")
    request.queries.add().views.add(image=picture(1))
    return await client.matcher.MatchProducts(request, timeout=timeout_s)
