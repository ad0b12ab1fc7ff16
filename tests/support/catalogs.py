"""Catalogues for tests: the sample's products as upserts, made-up products, and short ways to call a matcher."""

import contextlib
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from google.type import money_pb2
from grpc_status import rpc_status
from PIL import Image

from shoppable.matcher.catalogs import ModelIdentity
from shoppable.matcher.server import build
from shoppable.matcher.settings import MatcherSettings
from shoppable.runtime.server import serving
from shoppable.v1 import (
    common_pb2,
    product_catalog_pb2,
    product_catalog_pb2_grpc,
    product_matcher_pb2,
    product_matcher_pb2_grpc,
)

CATALOG = "catalogs/sample"
Upsert = product_catalog_pb2.ProductUpsert
M = TypeVar("M", bound=Message)


def sample_upserts(samples: Path) -> list[Upsert]:
    """Return the sample catalogue as a stream would send it."""
    upserts = []
    for row, line in enumerate((samples / "catalog.jsonl").read_text().splitlines(), start=1):
        values = json.loads(line)
        product = product_catalog_pb2.Product(
            title=values["title"],
            description=values["description"],
            category=values["category"],
            brand=values["brand"],
            price=money_pb2.Money(**values["price"]),
            uri=values["url"],
            availability=product_catalog_pb2.AVAILABILITY_IN_STOCK,
            attributes=values["attributes"],
            images=[
                product_catalog_pb2.ReferenceImage(uri=path, image=common_pb2.Image(data=(samples / path).read_bytes()))
                for path in values["images"]
            ],
        )
        upserts.append(Upsert(row=row, product=product, product_id=values["product_id"]))
    return upserts


def upsert_of(product_id: str, *, row: int = 1, images: int = 1, seed: int | None = None, **fields: object) -> Upsert:
    """Return a made-up product; its pictures differ by its id, or by the seed if there is one."""
    first = seed if seed is not None else int.from_bytes(hashlib.sha256(product_id.encode()).digest()[:4])
    values = {"title": f"Product {product_id}"} | fields
    product = product_catalog_pb2.Product(**values)  # type: ignore[arg-type]
    for number in range(images):
        product.images.add(image=picture(first + number))
    return Upsert(row=row, product=product, product_id=product_id)


def picture(seed: int, *, size: tuple[int, int] = (64, 48)) -> common_pb2.Image:
    """Return a small picture of coloured blocks, as PNG."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return common_pb2.Image(data=buffer.getvalue())


class FakeEmbedder:
    """Embeds by the mean colours of a picture's quarters; counts what it embeds, and fails when told to."""

    def __init__(self, size: int = 12, *, version: str = "1") -> None:
        self.embedded = 0
        self.failure: Exception | None = None
        self._identity = ModelIdentity("fake", version, size)

    @property
    def side(self) -> int:
        return 8

    async def identity(self) -> ModelIdentity:
        if self.failure:
            raise self.failure
        return self._identity

    async def embed(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self.failure and pictures:
            raise self.failure
        self.embedded += len(pictures)
        return [self._one(one) for one in pictures]

    async def check(self) -> None:
        if self.failure:
            raise self.failure

    def _one(self, pixels: np.ndarray) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:4])
        vector = np.random.default_rng(seed).standard_normal(self._identity.size).astype(np.float32)
        return vector / np.linalg.norm(vector)


class MatcherClient:
    """Short ways to call a matcher."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.catalogs = product_catalog_pb2_grpc.ProductCatalogServiceStub(channel)
        self.matcher = product_matcher_pb2_grpc.ProductMatcherServiceStub(channel)

    async def upsert(
        self, upserts: Iterable[Upsert], *, catalog: str = CATALOG, create: bool = True
    ) -> tuple[dict[int, product_catalog_pb2.UpsertResult], product_catalog_pb2.UpsertSummary]:
        """Send products; return the results by row, and the summary."""
        results: dict[int, product_catalog_pb2.UpsertResult] = {}
        summary = product_catalog_pb2.UpsertSummary()
        async for response in self.catalogs.UpsertProducts(requests_of(upserts, catalog=catalog, create=create)):
            if response.WhichOneof("response") == "result":
                results[response.result.row] = response.result
            else:
                summary = response.summary
        return results, summary

    async def match(
        self, *images: common_pb2.Image, catalog: str = CATALOG, **options: object
    ) -> product_matcher_pb2.MatchProductsResponse:
        """Match one thing for each image."""
        request = product_matcher_pb2.MatchProductsRequest(catalog=catalog, **options)  # type: ignore[arg-type]
        for image in images:
            request.queries.add().views.add(image=image)
        response: product_matcher_pb2.MatchProductsResponse = await self.matcher.MatchProducts(request)
        return response


def requests_of(
    upserts: Iterable[Upsert], *, catalog: str = CATALOG, create: bool = True
) -> list[product_catalog_pb2.UpsertProductsRequest]:
    """Return a stream's messages."""
    config = product_catalog_pb2.UpsertProductsConfig(catalog=catalog, create_catalog_if_missing=create)
    return [
        product_catalog_pb2.UpsertProductsRequest(config=config),
        *(product_catalog_pb2.UpsertProductsRequest(upsert=upsert) for upsert in upserts),
    ]


def settings_of(folder: Path, triton_endpoint: str, **values: object) -> MatcherSettings:
    """Return settings of a matcher on a free port, with its catalogues in `folder`."""
    fixed = {"port": 0, "data_dir": folder, "triton_endpoint": triton_endpoint}
    return MatcherSettings(**(fixed | values))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def matcher_client(settings: MatcherSettings) -> AsyncIterator[MatcherClient]:
    """Serve a matcher in this process and yield a client of it."""
    async with serving(settings, build) as (_, address), grpc.aio.insecure_channel(address) as channel:
        yield MatcherClient(channel)


def violations_of(error: grpc.aio.AioRpcError | status_pb2.Status) -> list[str]:
    """Return the fields that an error's BadRequest names."""
    return [violation.field for violation in _detail(error, error_details_pb2.BadRequest()).field_violations]


def reason_of(error: grpc.aio.AioRpcError | status_pb2.Status) -> str:
    """Return an error's reason."""
    return _detail(error, error_details_pb2.ErrorInfo()).reason


def resource_of(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Return the type and the name of the resource that an error is about."""
    info = _detail(error, error_details_pb2.ResourceInfo())
    return info.resource_type, info.resource_name


def _detail(error: grpc.aio.AioRpcError | status_pb2.Status, kind: M) -> M:
    status = error if isinstance(error, status_pb2.Status) else rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Unpack(kind):
            return kind
    raise AssertionError(f"no {type(kind).__name__} in {error}")
