"""Learning from labelled things: what is fitted, what is stored, and what is refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shoppable.matcher import colour
from shoppable.matcher.adapters.qdrant_edge import QdrantEdgeIndex, open_edge_index
from shoppable.matcher.calibrating import Calibrator, Thing
from shoppable.matcher.calibration import Logistic
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.centring import Means, rooted
from shoppable.matcher.comparing import Look
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.fits import fit_of
from shoppable.matcher.fitting import Example, fit_logistic, fit_means
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.matching import Matcher, MatchOptions
from shoppable.matcher.ports import ImageVectors, Query, View
from shoppable.matcher.quality import Answer, quality_of
from shoppable.runtime.errors import FailedPreconditionError, InvalidRequestError
from support.catalog_points import change_of, record_of, store, unit, vector_of
from support.catalogs import FakeEmbedder

SIZE, PRODUCTS = 48, 24
PRIOR = Logistic(intercept=-3, score=5, margin=10)


def embedding_of(product: int) -> np.ndarray:
    return unit(np.abs(vector_of(product, size=SIZE)) ** 2)


def seen(product: int, number: int) -> Look:
    """Return a product as it is met: under a light that all such pictures share, and a little different each time."""
    light = np.zeros(SIZE)
    light[:4] = 1.2
    noise = 0.05 * vector_of(1000 * product + number, size=SIZE)
    roots = unit(np.abs(rooted(embedding_of(product)) + light + noise))
    return Look(unit(roots**2), vector_of(product, size=colour.SIZE))


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[QdrantEdgeIndex]:
    async with open_edge_index(tmp_path, timeout_s=10) as made:
        await made.create_catalog(replace(record_of(size=SIZE), rooted=True))
        changes = [change_of(f"p{n}", embeddings={"1": rooted(embedding_of(n))}) for n in range(PRODUCTS)]
        await store(made, *changes)
        yield made


@pytest.fixture
def calibrator(index: QdrantEdgeIndex) -> Calibrator:
    return Calibrator(index, FakeEmbedder(SIZE), CatalogLocks())


async def record(index: QdrantEdgeIndex) -> CatalogRecord:
    return await index.get_catalog("shop") or record_of()


def things(count: int = 3) -> list[Thing]:
    return [Thing(row, [seen(row % PRODUCTS, row)], f"p{row % PRODUCTS}") for row in range(1, count * PRODUCTS + 1)]


async def test_calibrating_finds_more_and_counts_from_its_revision_on(
    index: QdrantEdgeIndex, calibrator: Calibrator
) -> None:
    before = await record(index)
    learned = await calibrator.calibrate(before, things())
    after = await record(index)
    assert after.revision == learned.revision == before.revision + 1
    assert (learned.things, learned.not_for_sale) == (3 * PRODUCTS, 0)
    assert learned.after.recall_at_1 > learned.before.recall_at_1
    assert learned.after.calibration_error < 0.15
    # On pictures that it has not seen.
    matcher = Matcher(index, Embedders(FakeEmbedder(SIZE)), queries_in_work=4, min_revision_wait_s=1)
    looks = {n: seen(n, 9000 + n) for n in range(PRODUCTS)}
    queries = [Query([View(embedding=look.embedding, colour=look.colour)]) for look in looks.values()]
    found = (await matcher.match(after, queries, MatchOptions())).results
    right = [result.matches[0].product.product_id == f"p{n}" for n, result in zip(looks, found, strict=True)]
    assert np.mean(right) > 0.9
    assert all(sum(match.confidence for match in result.matches[:2]) <= 1 + 1e-6 for result in found)


async def test_a_calibration_can_be_forgotten(index: QdrantEdgeIndex, calibrator: Calibrator) -> None:
    first = await record(index)
    await calibrator.calibrate(first, things(1))
    assert (await record(index)).fit
    revision = await calibrator.reset(await record(index))
    forgotten = await record(index)
    assert (forgotten.fit, forgotten.revision) == ("", revision)


async def test_things_not_for_sale_make_it_less_sure(index: QdrantEdgeIndex, calibrator: Calibrator) -> None:
    sold = things(1)
    await calibrator.calibrate(await record(index), sold)
    trusting = fit_of(await record(index)).calibration
    strangers = [Thing(500 + n, [seen(300 + n, n)], "") for n in range(3 * PRODUCTS)]
    learned = await calibrator.calibrate(await record(index), sold + strangers)
    careful = fit_of(await record(index)).calibration
    assert learned.not_for_sale == 3 * PRODUCTS
    assert careful.confidence(0.3, 0.02, with_colour=True) < trusting.confidence(0.3, 0.02, with_colour=True)


async def test_the_more_is_not_for_sale_the_less_sure_it_is(index: QdrantEdgeIndex, calibrator: Calibrator) -> None:
    sure, errors = [], []
    for share in (0.0, None, 0.2, 0.6):
        learned = await calibrator.calibrate(await record(index), things(1), not_for_sale_share=share)
        sure.append(fit_of(await record(index)).calibration.confidence(0.3, 0.02, with_colour=True))
        errors.append(learned.after.calibration_error)
        await calibrator.reset(await record(index))
    assert sure[0] > sure[1] == sure[2] > sure[3]
    # True where that share is not for sale, whatever the share.
    assert max(errors) < 0.15, errors


async def test_a_share_not_for_sale_is_refused_where_labels_say_it(
    index: QdrantEdgeIndex, calibrator: Calibrator
) -> None:
    labelled = [*things(1), Thing(500, [seen(300, 1)], "")]
    with pytest.raises(InvalidRequestError) as caught:
        await calibrator.calibrate(await record(index), labelled, not_for_sale_share=0.1)
    assert [violation.field for violation in caught.value.violations] == ["config.not_for_sale_share"]
    assert (await record(index)).fit == ""


async def test_a_label_of_no_product_is_named(index: QdrantEdgeIndex, calibrator: Calibrator) -> None:
    wrong = [replace(things(1)[0], product_id="p999", row=7)]
    with pytest.raises(InvalidRequestError) as caught:
        await calibrator.calibrate(await record(index), wrong)
    assert [violation.field for violation in caught.value.violations] == ["thing[7].product_id"]
    with pytest.raises(InvalidRequestError):
        await calibrator.calibrate(await record(index), [])
    assert (await record(index)).fit == ""


async def test_a_catalogue_without_products_or_of_the_first_version_is_refused(
    index: QdrantEdgeIndex, calibrator: Calibrator
) -> None:
    await index.create_catalog(replace(record_of("empty", size=SIZE), rooted=True))
    empty = await index.get_catalog("empty") or record_of()
    nobody = [Thing(1, [seen(1, 1)], "")]
    for catalog, reason in ((empty, "CATALOG_EMPTY"), (record_of(size=SIZE), "CATALOG_TOO_OLD")):
        with pytest.raises(FailedPreconditionError) as caught:
            await calibrator.calibrate(catalog, nobody)
        assert caught.value.reason == reason


def test_few_labels_leave_what_was_known() -> None:
    assert fit_logistic([], PRIOR) == PRIOR
    one = fit_logistic([Example(0.9, 0.2, right=False)], PRIOR)
    assert one.intercept < PRIOR.intercept
    assert one(0.9, 0.2) > 0.5


def test_weights_are_never_negative() -> None:
    against = [Example(score, score, right=score < 0.3) for score in np.linspace(0, 0.6, 400)]
    fitted = fit_logistic(against, PRIOR)
    assert fitted.score == 0
    assert fitted.margin >= 0


def test_a_fit_of_many_labels_is_calibrated() -> None:
    chance = np.random.default_rng(0)
    truth = Logistic(intercept=-2, score=3, margin=12)
    drawn = [(float(score), float(score / 3)) for score in chance.random(4000)]
    examples = [Example(score, margin, right=chance.random() < truth(score, margin)) for score, margin in drawn]
    fitted = fit_logistic(examples, PRIOR)
    assert max(abs(fitted(*one) - truth(*one)) for one in drawn) < 0.06


def test_means_are_drawn_to_what_is_known() -> None:
    prior = Means(np.zeros(2, np.float32), np.zeros(2, np.float32))
    images = [ImageVectors(np.array([1, 0], np.float32), np.array([0, 1], np.float32))] * 3
    drawn = fit_means(images, prior, prior_images=9)
    assert (drawn.embedding.tolist(), drawn.colour.tolist()) == ([0.25, 0], [0, 0.25])
    assert fit_means(images, None, prior_images=9).embedding.tolist() == [1, 0]


def test_quality_counts_things_for_sale_and_all_claims() -> None:
    answers = [
        Answer(0.9, 0, for_sale=True),
        Answer(0.78, 3, for_sale=True),
        Answer(0.1, None, for_sale=True),
        Answer(0.8, None, for_sale=False),
    ]
    quality = quality_of(answers)
    assert (quality.recall_at_1, quality.recall_at_5) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert quality.match_rate == pytest.approx(2 / 3)
    assert quality.match_precision == pytest.approx(1 / 3)
    assert quality.calibration_error == pytest.approx((0.1 + 0.78 + 0.1 + 0.8) / 4)
    assert quality_of([]).match_precision is None
    # A claim with the product left out, a quarter of a thing, is a wrong one.
    mixed = quality_of([*answers, Answer(0.95, None, for_sale=False, weight=0.25)])
    assert (mixed.recall_at_1, mixed.match_rate) == (quality.recall_at_1, quality.match_rate)
    assert mixed.match_precision == pytest.approx(1 / 3.25)
    assert mixed.calibration_error == pytest.approx((abs(0.9 - 1 + 0.25 * 0.95) + 0.78 + 0.1 + 0.8) / 4.25)
