"""Comparing with the means taken out, through an index that knows cosines only."""

from pathlib import Path

import numpy as np
import pytest

from shoppable.matcher import colour
from shoppable.matcher.adapters.qdrant_edge import open_edge_index
from shoppable.matcher.calibration import load_calibration
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.centring import Centring, Means, rooted
from shoppable.matcher.comparing import Comparer, Look
from shoppable.matcher.fits import Fit, everyday, fit_of, read_fit
from shoppable.matcher.ports import Space
from support.catalog_points import LATER, SIZE, TIME, change_of, record_of, store, vector_of


def some_means(seed: int) -> Means:
    return Means(vector_of(seed) * np.float32(0.6), vector_of(seed, size=colour.SIZE) * np.float32(0.5))


CENTRING = Centring(some_means(100), some_means(101))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_roots_even_out_and_keep_signs_and_length() -> None:
    stored = rooted(np.array([0.64, -0.36, 0.0, 0.0], np.float32))
    assert stored == pytest.approx([0.8, -0.6, 0, 0], abs=1e-6)
    assert np.linalg.norm(rooted(vector_of(3))) == pytest.approx(1)


async def test_likenesses_are_the_centred_cosines_exactly(tmp_path: Path) -> None:
    views = [Look(vector_of(1), vector_of(1, size=colour.SIZE)), Look(vector_of(2), None)]
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        await store(index, *(change_of(f"p{n}", images=("1", "2")) for n in range(40)))
        found = await Comparer(index, record_of(), CENTRING).compare(views, where=(), enough=8)
    assert len({image.product_id for image in found[0].images}) == 8
    assert found[1].colours is None
    for look, hits in zip(views, found, strict=True):
        for image in hits.images:
            seed = sum(f"{image.product_id}/{image.image_id}".encode())
            reference = vector_of(seed) - CENTRING.references.embedding
            expected = cosine(look.embedding - CENTRING.queries.embedding, reference)
            assert image.similarity == pytest.approx(expected, abs=1e-4)
    tints = found[0].colours or {}
    assert len(tints) == len(found[0].images)
    for (product_id, image_id), value in tints.items():
        reference = vector_of(sum(f"{product_id}/{image_id}".encode()), size=colour.SIZE) - CENTRING.references.colour
        assert value == pytest.approx(cosine(views[0].colour - CENTRING.queries.colour, reference), abs=1e-4)


async def test_a_picture_that_is_all_mean_is_like_something_finite(tmp_path: Path) -> None:
    mean = some_means(100)
    all_mean = Means(mean.embedding, mean.colour)
    aim = Centring(all_mean, all_mean).aim(Space.EMBEDDING, mean.embedding)
    assert np.linalg.norm(aim.direction) == pytest.approx(1)
    for along in (-1.0, 0.0, 1.0):
        assert -1 <= CENTRING.likeness(Space.EMBEDDING, aim, along, 1.0) <= 1


def test_the_package_knows_the_suites_embedder_and_no_other() -> None:
    embedder, fit = everyday()
    assert (embedder.name, embedder.size) == ("embedder", 1280)
    assert fit.centring
    assert fit.centring.queries.embedding.shape == (1280,)
    assert fit.centring.queries.colour.shape == (colour.SIZE,)
    known = CatalogRecord("shop", "", embedder, TIME, TIME, rooted=True)
    assert fit_of(known) is fit
    # Another model; and a catalogue of the first version, whose embeddings are stored as the model gave them.
    other = CatalogRecord("shop", "", ModelIdentity("other", "1", SIZE), TIME, TIME, rooted=True)
    first_version = CatalogRecord("shop", "", embedder, TIME, TIME)
    assert fit_of(other).centring is None
    assert fit_of(first_version).centring is None


async def test_a_catalogues_own_fit_is_used_from_its_revision_on(tmp_path: Path) -> None:
    text = Fit(CENTRING, load_calibration()).to_text()
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        record = await index.advance("shop", attribute_keys=set(), updated=LATER, fit=text)
        assert await index.get_catalog("shop") != record
        await index.write("shop", [], revision=record.revision)
        assert await index.get_catalog("shop") == record
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        found = await index.get_catalog("shop") or record_of()
        after = await store(index, change_of("a"))
    assert fit_of(found).to_text() == text == after.fit
    assert fit_of(found).calibration == load_calibration()


@pytest.mark.parametrize("text", ["{}", '{"format": 2}', '{"format": 1, "references": {}}'])
def test_a_fit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_fit(text)


def test_means_that_cannot_be_right_are_refused() -> None:
    too_long = Means(vector_of(1) * np.float32(2), vector_of(1, size=colour.SIZE) * np.float32(0.5))
    with pytest.raises(ValueError):
        Means.from_json(too_long.to_json())
