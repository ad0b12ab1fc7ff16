"""The embedded index at size: `python tests/load/bench_index.py [--images 50000]`.

Made-up catalogues of the embedder's width: clusters of products, as shops have kinds of things. Reports how fast images
are stored, what a comparison costs (plainly and with means, with a filter and without), whether the right candidates
come back (against all vectors compared in numpy), and what it is beside a catalogue of a tenth: take ratios, not times.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shoppable.matcher import colour
from shoppable.matcher.adapters.qdrant_edge import open_edge_index
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.centring import Centring, Means, rooted
from shoppable.matcher.comparing import Comparer, Look
from shoppable.matcher.filters import CATEGORY, AnyOf, Condition
from shoppable.matcher.ports import ImagePoint, ImageVectors, ProductChange, VectorIndex
from shoppable.matcher.products import Product, ReferenceImage

SIZE, CLUSTERS, BATCH, CANDIDATES = 1280, 200, 500, 32
TIME = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = CatalogRecord("bench", "", ModelIdentity("bench", "1", SIZE), TIME, TIME, rooted=True)


class Made:
    """Made-up pictures: each a cluster's centre and noise, not negative, as the embedder gives them."""

    def __init__(self, images: int) -> None:
        chance = np.random.default_rng(1)
        self._centres = chance.gamma(0.5, size=(CLUSTERS, SIZE)).astype(np.float32)
        self._tints = chance.random((CLUSTERS, colour.SIZE), np.float32)
        self.cluster = chance.integers(0, CLUSTERS, images)
        self._chance = chance

    def pictures(self, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings and colours, each of length 1."""
        noise = self._chance.gamma(0.5, size=(len(clusters), SIZE)).astype(np.float32)
        embeddings, tints = self._centres[clusters] + noise, self._tints[clusters] + 0.1
        return (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (embeddings, tints))  # type: ignore[return-value]


async def fill(index: VectorIndex, made: Made) -> tuple[float, np.ndarray]:
    """Store all; return images a second, and the stored embeddings."""
    await index.create_catalog(RECORD)
    stored, seconds = [], 0.0
    for start in range(0, len(made.cluster), BATCH):
        clusters = made.cluster[start : start + BATCH]
        embeddings, tints = made.pictures(clusters)
        changes = []
        for place, (embedding, tint) in enumerate(zip(embeddings, tints, strict=True)):
            stored.append(rooted(embedding))
            product = Product(
                f"p{start + place}",
                "A product",
                category=f"kind-{clusters[place]}",
                images=(ReferenceImage("1"),),
                attributes={},
            ).stored(created=TIME, updated=TIME, revision=1)
            point = ImagePoint(product.images[0], 0, ImageVectors(stored[-1], tint))
            changes.append(ProductChange(product, "-", [point]))
        begun = time.perf_counter()
        record = await index.advance("bench", attribute_keys=set(), updated=TIME)
        await index.write("bench", changes, revision=record.revision)
        seconds += time.perf_counter() - begun
    return len(made.cluster) / seconds, np.stack(stored)


async def ask(
    index: VectorIndex, centring: Centring | None, looks: Sequence[Look], where: Sequence[Condition]
) -> tuple[list[float], list[set[str]]]:
    """Return milliseconds and candidates of each query."""
    comparer = Comparer(index, replace(RECORD), centring)
    times, found = [], []
    for look in looks:
        begun = time.perf_counter()
        (view,) = await comparer.compare([look], where=where, enough=CANDIDATES)
        times.append(1000 * (time.perf_counter() - begun))
        found.append({image.product_id for image in view.images})
    return times, found


def exact(stored: np.ndarray, centring: Centring | None, looks: Sequence[Look]) -> list[set[str]]:
    """Return the nearest ten products of each query, all compared, as the likeness is defined."""
    references = stored - centring.references.embedding if centring else stored
    references = references / np.linalg.norm(references, axis=1, keepdims=True)
    nearest = []
    for look in looks:
        query = rooted(look.embedding) - (centring.queries.embedding if centring else 0)
        nearest.append({f"p{number}" for number in np.argsort(-(references @ query))[:10]})
    return nearest


async def measure(images: int, queries: int) -> dict[str, float]:
    """Return the figures of one size."""
    made = Made(images)
    with tempfile.TemporaryDirectory() as folder:
        async with open_edge_index(Path(folder), timeout_s=600) as index:
            rate, stored = await fill(index, made)
        begun = time.perf_counter()
        async with open_edge_index(Path(folder), timeout_s=600) as index:
            figures = {"images/s stored": rate, "s to open, with its graph": time.perf_counter() - begun}
            embeddings, tints = made.pictures(made.cluster[:queries])
            looks = [Look(*pair) for pair in zip(embeddings, tints, strict=True)]
            means = Means(stored.mean(0), np.full(colour.SIZE, 0.05, np.float32))
            of_one_kind = (AnyOf(CATEGORY, ("kind-7",)),)
            for way, centring in (("plain", None), ("centred", Centring(means, means))):
                await ask(index, centring, looks[:3], ())
                times, found = await ask(index, centring, looks, ())
                right = exact(stored, centring, looks)
                hits = [len(one & other) / len(one) for one, other in zip(right, found, strict=True)]
                filtered, _ = await ask(index, centring, looks, of_one_kind)
                figures |= {
                    f"{way}: ms, median": statistics.median(times),
                    f"{way}: ms, 99th percentile": float(np.percentile(times, 99)),
                    f"{way}: ms, median, one kind of {CLUSTERS}": statistics.median(filtered),
                    f"{way}: exact ten nearest among {CANDIDATES} candidates": statistics.mean(hits),
                }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=100)
    given = parser.parse_args()
    small = asyncio.run(measure(given.images // 10, given.queries))
    large = asyncio.run(measure(given.images, given.queries))
    print(f"{'':48s} {given.images // 10:10d} {given.images:10d}    ratio")
    for name, value in large.items():
        print(f"{name:48s} {small[name]:10.3f} {value:10.3f} {value / max(small[name], 1e-9):8.2f}")


if __name__ == "__main__":
    main()
