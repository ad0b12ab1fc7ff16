"""The index at size: `python tests/load/bench_index.py [--products 10000 100000] [--qdrant HOST:PORT]`.

Made-up catalogues of the embedder's width: clusters of products, as shops have kinds of things, one picture each.
Reports for each size how long it takes to store and to build the graph, what it takes of memory and disk, how fast it
answers with and without filters, and whether the ten nearest are the true ten (all vectors compared in numpy while they
are made); then how each grows. Vectors are made a batch at a time, so a million need no more memory than the index
does. Each size has a process of its own. Take ratios, not times. The embedded index is measured in a folder of its own
below --folder; a server in a catalogue that is deleted at the end.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

from shoppable.matcher import colour
from shoppable.matcher.adapters import qdrant_calls
from shoppable.matcher.adapters.qdrant_edge import open_edge_index
from shoppable.matcher.adapters.qdrant_server import QdrantServerIndex
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.centring import Centring, Means, rooted
from shoppable.matcher.comparing import Comparer, Look
from shoppable.matcher.filters import AVAILABILITY, CATEGORY, AnyOf, Condition
from shoppable.matcher.ports import ImagePoint, ImageVectors, ProductChange, Space, VectorIndex
from shoppable.matcher.products import Product, ReferenceImage

SIZE, CLUSTERS, BATCH, CANDIDATES, NEAREST = 1280, 200, 500, 32, 10
AT_A_TIME = 8  # callers, for queries a second
TIME = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = CatalogRecord("bench", "", ModelIdentity("bench", "1", SIZE), TIME, TIME, rooted=True, worded=True)
TIMEOUT_S = 7200.0
FILTERS: dict[str, tuple[Condition, ...]] = {
    "": (),
    f", one kind of {CLUSTERS}": (AnyOf(CATEGORY, ("kind-7",)),),
    ", a third that is in stock": (AnyOf(AVAILABILITY, (1,)),),
}


class Made:
    """Made-up pictures: each a cluster's centre and noise, not negative, as the embedder gives them."""

    def __init__(self) -> None:
        self._chance = np.random.default_rng(1)
        self._centres = self._chance.gamma(0.5, size=(CLUSTERS, SIZE)).astype(np.float32)
        self._tints = self._chance.random((CLUSTERS, colour.SIZE), np.float32)

    def pictures(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return clusters, stored embeddings and colours, the vectors each of length 1."""
        clusters = self._chance.integers(0, CLUSTERS, count)
        noise = self._chance.gamma(0.5, size=(count, SIZE)).astype(np.float32)
        embeddings = np.stack([rooted(one) for one in self._centres[clusters] + noise])
        tints = self._tints[clusters] + 0.1 * self._chance.random((count, colour.SIZE), np.float32)
        return clusters, embeddings, tints / np.linalg.norm(tints, axis=1, keepdims=True)


class Truth:
    """The nearest of all that was stored, for some queries: each vector is compared once, and forgotten."""

    def __init__(self, queries: np.ndarray) -> None:
        self._queries = queries
        self._best = np.full((len(queries), NEAREST), -np.inf, np.float32)
        self._ids = np.zeros((len(queries), NEAREST), np.int64)

    def add(self, first: int, embeddings: np.ndarray) -> None:
        """Compare a batch, whose first product has this number."""
        scores = np.concatenate([self._best, self._queries @ embeddings.T], axis=1)
        numbers = np.broadcast_to(np.arange(first, first + len(embeddings)), (len(self._queries), len(embeddings)))
        ids = np.concatenate([self._ids, numbers], axis=1)
        order = np.argsort(-scores, axis=1)[:, :NEAREST]
        self._best, self._ids = (np.take_along_axis(values, order, axis=1) for values in (scores, ids))

    def recall(self, found: Sequence[Sequence[str]]) -> float:
        """Return which share of the true nearest was found."""
        right = [len({f"p{one}" for one in ids} & set(named)) for ids, named in zip(self._ids, found, strict=True)]
        return sum(right) / (NEAREST * len(right))


async def fill(index: VectorIndex, made: Made, products: int, truth: Truth) -> tuple[float, Means]:
    """Store all; return the seconds that the index took, and the means of what was stored."""
    await index.create_catalog(RECORD)
    seconds, mean = 0.0, np.zeros(SIZE)
    for first in range(0, products, BATCH):
        clusters, embeddings, tints = made.pictures(min(BATCH, products - first))
        truth.add(first, embeddings)
        mean += embeddings.sum(0)
        changes = []
        for place, (embedding, tint) in enumerate(zip(embeddings, tints, strict=True)):
            product = Product(
                f"p{first + place}",
                "A product",
                category=f"kind-{clusters[place]}",
                availability=1 + (first + place) % 3,
                images=(ReferenceImage("1"),),
                attributes={},
            ).stored(created=TIME, updated=TIME, revision=1)
            changes.append(
                ProductChange(product, "-", [ImagePoint(product.images[0], 0, ImageVectors(embedding, tint))])
            )
        begun = time.perf_counter()
        record = await index.advance("bench", attribute_keys=set(), updated=TIME)
        await index.write("bench", changes, revision=record.revision)
        seconds += time.perf_counter() - begun
    return seconds, Means((mean / products).astype(np.float32), np.full(colour.SIZE, 0.05, np.float32))


async def search(
    index: VectorIndex, queries: np.ndarray, where: Sequence[Condition]
) -> tuple[np.ndarray, list[list[str]]]:
    """Return the milliseconds of each query, one after the other, and what it found."""
    times, found = [], []
    for query in queries:
        begun = time.perf_counter()
        (hits,) = await index.search("bench", Space.EMBEDDING, [query], where=where, limit=NEAREST)
        times.append(1000 * (time.perf_counter() - begun))
        found.append([hit.product_id for hit in hits])
    return np.asarray(times), found


async def rate(index: VectorIndex, queries: np.ndarray) -> float:
    """Return queries a second of several callers at a time."""

    async def caller(place: int) -> None:
        for query in queries[place::AT_A_TIME]:
            await index.search("bench", Space.EMBEDDING, [query], where=(), limit=NEAREST)

    begun = time.perf_counter()
    await asyncio.gather(*(caller(place) for place in range(AT_A_TIME)))
    return len(queries) / (time.perf_counter() - begun)


async def compare(index: VectorIndex, looks: Sequence[Look], centring: Centring) -> np.ndarray:
    """Return the milliseconds of each whole comparison, as a match makes it."""
    comparer, times = Comparer(index, replace(RECORD), centring), []
    for look in looks:
        begun = time.perf_counter()
        await comparer.compare([look], where=(), enough=CANDIDATES)
        times.append(1000 * (time.perf_counter() - begun))
    return np.asarray(times)


@contextlib.asynccontextmanager
async def opened(folder: Path, qdrant: str | None) -> AsyncIterator[VectorIndex]:
    """Open the index that is measured."""
    if qdrant is None:
        async with open_edge_index(folder, timeout_s=TIMEOUT_S) as index:
            yield index
        return
    async with qdrant_calls.connect(qdrant, api_key=None, tls=False, timeout_s=TIMEOUT_S) as client:
        yield QdrantServerIndex(client, prefix="bench", timeout_s=TIMEOUT_S)


async def measure(products: int, queries: int, folder: Path, qdrant: str | None) -> dict[str, float]:
    """Return the figures of one size."""
    made = Made()
    _, wanted, tints = made.pictures(queries)
    truth = Truth(wanted)
    before = _resident_mb()
    async with opened(folder, qdrant) as index:
        stored_s, means = await fill(index, made, products, truth)
    begun = time.perf_counter()
    async with opened(folder, qdrant) as index:
        figures = {"s to store": stored_s, "s to open, with its graph": time.perf_counter() - begun}
        await search(index, wanted[:3], ())
        for name, where in FILTERS.items():
            times, found = await search(index, wanted, where)
            if not where:
                figures[f"recall@{NEAREST}"] = truth.recall(found)
            figures |= {f"ms, median{name}": float(np.median(times)), f"ms, p99{name}": float(np.percentile(times, 99))}
        figures[f"queries/s, {AT_A_TIME} callers"] = await rate(index, wanted)
        looks = [Look(*pair) for pair in zip(np.square(wanted), tints, strict=True)]
        times = await compare(index, looks, Centring(means, means))
        figures |= {"ms, median, as a match compares": float(np.median(times))}
        if qdrant is None:
            figures |= {"MB resident more than at first": _resident_mb() - before, "MB on disk": _disk_mb(folder)}
        await index.delete_catalog("bench")
    return figures


def measured(products: int, queries: int, folder: Path, qdrant: str | None) -> dict[str, float]:
    """Return the figures of one size, measured in this process."""
    return asyncio.run(measure(products, queries, folder, qdrant))


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def _disk_mb(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, nargs="+", default=[10_000, 100_000], help="sizes, the smallest first")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--qdrant", metavar="HOST:PORT", help="a Qdrant server's gRPC address")
    parser.add_argument("--folder", type=Path, help="where the embedded index goes; by default the temporary folder")
    given = parser.parse_args()
    columns = []
    for products in given.products:
        folder = Path(tempfile.mkdtemp(prefix="bench-index-", dir=given.folder))
        try:
            # Spawned, so that one size's memory is not another's.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
                columns.append(alone.submit(measured, products, given.queries, folder, given.qdrant).result())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{products} products: {columns[-1]}", file=sys.stderr, flush=True)
    print(machine())
    head = "".join(f"{products:>12,}" for products in given.products)
    print(f"{'products':44s}{head}" + "".join(f"{'x':>9s}" for _ in columns[1:]))
    for name, first in columns[0].items():
        values = [column[name] for column in columns]
        grown = "".join(f"{value / max(first, 1e-9):9.2f}" for value in values[1:])
        print(f"{name:44s}" + "".join(f"{value:12.2f}" for value in values) + grown)


if __name__ == "__main__":
    main()
