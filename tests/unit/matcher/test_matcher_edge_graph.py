"""A catalogue that is large enough for a search graph: what is found by it is what a comparison of all finds."""

from pathlib import Path

import numpy as np
import pytest

from shoppable.matcher.adapters import edge_catalog
from shoppable.matcher.adapters.edge_catalog import EdgeCatalog
from shoppable.matcher.filters import AVAILABILITY, AnyOf
from shoppable.matcher.ports import Space
from support.catalog_points import change_of, record_of

SIZE = 1280  # a graph is built from 20 MB of vectors on
IMAGES, CLUSTERS, QUERIES, NEAREST = 4500, 20, 20, 10


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Pictures of a few kinds of things, and queries like them behind."""
    chance = np.random.default_rng(1)
    centres = chance.standard_normal((CLUSTERS, SIZE))
    made = centres[np.arange(IMAGES + QUERIES) % CLUSTERS] + 0.7 * chance.standard_normal((IMAGES + QUERIES, SIZE))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def fill(folder: Path, vectors: np.ndarray) -> None:
    catalog = EdgeCatalog.create(folder, record_of(size=SIZE))
    changes = [
        change_of(str(number), embeddings={"1": vectors[number]}, availability=1 + number % 3)
        for number in range(IMAGES)
    ]
    for first in range(0, IMAGES, 500):
        catalog.write(changes[first : first + 500])
    catalog.close()


@pytest.mark.parametrize(
    "made_with",
    [
        pytest.param({}, id="what a filter leaves is compared"),
        pytest.param({"_COMPARED": 100}, id="what a filter leaves is searched by the graph"),
        pytest.param({"_QUANTIZATION": None}, id="a shard without 8 bits"),
    ],
)
def test_a_graph_finds_what_a_comparison_of_all_finds(
    tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch, made_with: dict[str, object]
) -> None:
    with monkeypatch.context() as making:
        for name, value in made_with.items():
            making.setattr(edge_catalog, name, value)
        fill(tmp_path / "shop", vectors)
    monkeypatch.setattr(edge_catalog, "_OPTIMIZE_FROM", 1000)
    catalog = EdgeCatalog.open(tmp_path / "shop")
    assert catalog._shard.info().indexed_vectors_count >= IMAGES
    queries = vectors[IMAGES:]
    for where, all_ in (((), np.arange(IMAGES)), ((AnyOf(AVAILABILITY, (1,)),), np.arange(0, IMAGES, 3))):
        found = catalog.search(Space.EMBEDDING, list(queries), where=where, limit=NEAREST)
        likeness = queries @ vectors[all_].T
        true = [all_[order] for order in np.argsort(-likeness, axis=1)[:, :NEAREST]]
        right = [
            len({hit.product_id for hit in hits} & {str(one) for one in ids})
            for hits, ids in zip(found, true, strict=True)
        ]
        assert sum(right) >= 0.98 * NEAREST * QUERIES
        # Likeness is told of the vectors themselves, not of their 8 bits.
        best = [hits[0].similarity for hits in found]
        np.testing.assert_allclose(best, np.sort(likeness, axis=1)[:, -1], atol=1e-5)
    catalog.close()
