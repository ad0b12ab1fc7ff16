"""One whole suite for all end-to-end tests: real Triton, Qdrant Edge and the four services, each a process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shoppable.client import CatalogClient, open_channel
from shoppable.local.suite import LocalSuite, SuiteOptions
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton
from shoppable.v1 import product_catalog_pb2
from support.catalogs import CATALOG, sample_upserts
from support.span_collector import SpanCollector

_START_LIMIT_S = 120
_STOP_LIMIT_S = 60


@dataclass(frozen=True)
class RunningSuite:
    """Addresses and processes of the suite; tests must leave it running and well."""

    endpoints: dict[str, str]
    pid: Callable[[str], int | None]  # of a service, or of "inference", at this moment
    inbox: Path  # a folder whose files the decoder may read by URI
    logs: Path
    collector: SpanCollector  # where all services send their traces


@pytest.fixture(scope="session")
def suite(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSuite]:
    """The suite with the sample catalogue in it, living in a thread of its own."""
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))
    folder, inbox = tmp_path_factory.mktemp("suite"), tmp_path_factory.mktemp("inbox")
    collector = SpanCollector()
    environment = pytest.MonkeyPatch()
    environment.setenv("SHOPPABLE_OTLP_ENDPOINT", f"http://{collector.address}")
    settings = folder / "settings.toml"
    settings.write_text("metrics_port = 0\n")  # any free one, which their logs tell
    environment.setenv("SHOPPABLE_CONFIG", str(settings))
    options = SuiteOptions(data_folder=folder / "data", log_folder=folder / "logs", file_roots=(samples, inbox))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="suite", daemon=True)
    thread.start()
    local = LocalSuite(options)
    try:
        asyncio.run_coroutine_threadsafe(local.__aenter__(), loop).result(_START_LIMIT_S)
        try:
            asyncio.run_coroutine_threadsafe(_import(local.endpoints.matcher, samples), loop).result(_START_LIMIT_S)
            names = ("orchestrator", "decoder", "detector", "matcher")
            yield RunningSuite(
                {name: getattr(local.endpoints, name) for name in names},
                lambda name: local.pids.get(name),
                inbox,
                folder / "logs",
                collector,
            )
        finally:
            asyncio.run_coroutine_threadsafe(local.__aexit__(None, None, None), loop).result(_STOP_LIMIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        environment.undo()
        collector.stop()


async def _import(address: str, samples: Path) -> None:
    async def products() -> AsyncIterator[product_catalog_pb2.ProductUpsert]:
        for upsert in sample_upserts(samples):
            yield upsert

    config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
    async with open_channel(address) as channel:
        async for response in CatalogClient(channel).upsert_products(config, products()):
            assert response.result.outcome != product_catalog_pb2.UPSERT_OUTCOME_FAILED, response.result.status.message
