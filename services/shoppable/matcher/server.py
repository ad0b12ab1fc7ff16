"""What the product matcher is made of."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from shoppable.matcher.adapters import qdrant_calls
from shoppable.matcher.adapters.qdrant_collections import CollectionOptions
from shoppable.matcher.adapters.qdrant_edge import open_edge_index
from shoppable.matcher.adapters.qdrant_server import QdrantServerIndex
from shoppable.matcher.adapters.triton import TritonEmbedder
from shoppable.matcher.calibrating import MAX_THINGS, Calibrator
from shoppable.matcher.catalog_servicer import ProductCatalogServicer
from shoppable.matcher.convert_match import MAX_VIEWS
from shoppable.matcher.convert_upserts import MAX_IMAGES
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.keeping import CatalogKeeper
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.matcher_servicer import ProductMatcherServicer
from shoppable.matcher.matching import Matcher
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.ports import VectorIndex
from shoppable.matcher.replacing import Replacer
from shoppable.matcher.searching import Searcher
from shoppable.matcher.settings import MatcherSettings
from shoppable.matcher.upserts import StreamLimits, Upserter
from shoppable.runtime import inference, triton_connection
from shoppable.runtime.server import Assembly, Limit, Service
from shoppable.v1 import (
    product_catalog_pb2,
    product_catalog_pb2_grpc,
    product_matcher_pb2,
    product_matcher_pb2_grpc,
)


@contextlib.asynccontextmanager
async def build(settings: MatcherSettings) -> AsyncIterator[Assembly]:
    """Open the index and the way to Triton, yield the services, and close it all."""
    async with (
        _open_index(settings) as index,
        triton_connection.connect(settings) as triton,
    ):
        current, *others = (
            TritonEmbedder(
                inference.Model(
                    triton, name, input_name="images", output_name="embeddings", timeout_s=settings.embed_timeout_s
                ),
                in_flight=settings.embeds_in_flight,
            )
            for name in (settings.embedder_model, *settings.other_embedder_models)
        )
        locks = CatalogLocks()
        replacer = Replacer(index, locks)
        pictures = PictureReader(
            threads=settings.decode_threads, max_pixels=settings.max_image_pixels, side=current.side
        )
        with contextlib.closing(pictures):
            try:
                yield _assemble(settings, index, Embedders(current, others), current, pictures, locks, replacer)
            finally:
                await replacer.close()


@contextlib.asynccontextmanager
async def _open_index(settings: MatcherSettings) -> AsyncIterator[VectorIndex]:
    if settings.index == "edge":
        async with open_edge_index(settings.data_dir, timeout_s=settings.index_timeout_s) as index:
            yield index
        return
    key = settings.qdrant_api_key
    async with qdrant_calls.connect(
        settings.qdrant_endpoint,
        api_key=key.get_secret_value() if key else None,
        tls=settings.qdrant_tls,
        timeout_s=settings.index_timeout_s,
    ) as client:
        yield QdrantServerIndex(
            client,
            prefix=settings.qdrant_prefix,
            timeout_s=settings.index_timeout_s,
            options=CollectionOptions(
                shards=settings.qdrant_shards,
                replicas=settings.qdrant_replicas,
                on_disk=settings.qdrant_on_disk,
                quantization=settings.qdrant_quantization,
                oversampling=settings.qdrant_oversampling,
                hnsw_m=settings.qdrant_hnsw_m,
                hnsw_ef_construct=settings.qdrant_hnsw_ef_construct,
                hnsw_ef=settings.qdrant_hnsw_ef,
            ),
        )


class _Shared:
    """The readiness check of both services: one at a time, since each costs an inference."""

    def __init__(self, index: VectorIndex, embedder: TritonEmbedder) -> None:
        self._index = index
        self._embedder = embedder
        self._running: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Raise unless the index answers and a picture can be embedded."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        # A check that outlives one service's patience is not to be taken from the other.
        await asyncio.shield(self._running)

    async def _check(self) -> None:
        await self._index.check()
        await self._embedder.check()


def _assemble(
    settings: MatcherSettings,
    index: VectorIndex,
    embedders: Embedders,
    embedder: TritonEmbedder,
    pictures: PictureReader,
    locks: CatalogLocks,
    replacer: Replacer,
) -> Assembly:
    keeper = CatalogKeeper(index, embedder, locks, replacer)
    matcher = Matcher(
        index,
        embedders,
        queries_in_work=settings.queries_in_work,
        min_revision_wait_s=settings.min_revision_wait_s,
    )
    upserter = Upserter(
        index,
        embedder,
        pictures,
        locks,
        StreamLimits(
            products_in_work=settings.upserts_in_work,
            bytes_in_work=settings.upsert_bytes_in_work,
            batch=settings.upsert_batch,
            attribute_keys=settings.max_attribute_keys,
            embeds=max(1, settings.embeds_in_flight // 2),
        ),
    )

    ready = _Shared(index, embedder)

    return Assembly(
        services=[
            Service(
                product_matcher_pb2.DESCRIPTOR.services_by_name["ProductMatcherService"],
                product_matcher_pb2_grpc.add_ProductMatcherServiceServicer_to_server,
                ProductMatcherServicer(
                    matcher, Searcher(index, embedders), keeper, embedders, pictures, max_queries=settings.max_queries
                ),
                ready,
            ),
            Service(
                product_catalog_pb2.DESCRIPTOR.services_by_name["ProductCatalogService"],
                product_catalog_pb2_grpc.add_ProductCatalogServiceServicer_to_server,
                ProductCatalogServicer(
                    keeper,
                    upserter,
                    Calibrator(index, embedder, locks),
                    embedders,
                    pictures,
                    max_attribute_keys=settings.max_attribute_keys,
                ),
                ready,
            ),
        ],
        limits=[
            Limit("queries_per_request", settings.max_queries, "things"),
            Limit("views_per_query", MAX_VIEWS, "views"),
            Limit("images_per_product", MAX_IMAGES, "images"),
            Limit("image_pixels", settings.max_image_pixels, "pixels"),
            Limit("attribute_keys_per_catalog", settings.max_attribute_keys, "attributes"),
            Limit("products_per_page", 1000, "products"),
            Limit("things_per_calibration", MAX_THINGS, "things"),
        ],
    )
