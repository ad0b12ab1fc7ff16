"""Calibrating a catalogue from labelled pictures: how its products look where they are met, how sure a likeness is.

The references' mean is that of the catalogue, drawn to what the package knows; the queries' mean is that of the
labelled pictures. With these, each thing is ranked, and the confidence is fitted to whether the first product is the
right one. Nothing is stored before all of it is known.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from shoppable.matcher.calibration import Calibration
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.centring import Centring, rooted
from shoppable.matcher.comparing import Comparer, Look
from shoppable.matcher.fits import Fit, everyday, fit_of
from shoppable.matcher.fitting import QUERIES_PRIOR, REFERENCES_PRIOR, Example, fit_logistic, fit_means
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.names import catalog_name
from shoppable.matcher.ports import CatalogGoneError, Embedder, ImageVectors, Pixels, VectorIndex, View
from shoppable.matcher.products import now
from shoppable.matcher.quality import Answer, Quality, quality_of
from shoppable.matcher.scoring import Candidate, ViewHits, rank
from shoppable.runtime.errors import FailedPreconditionError, InvalidRequestError, Violation

T = TypeVar("T")
MAX_THINGS = 10_000
# Of a catalogue's pictures; more do not change their mean.
_REFERENCES = 2000
_CANDIDATES = 32  # as a match looks at
_IN_WORK = 8  # things embedded, or compared, at a time
# A thing counts so much with its product left out, where nobody said which things are not for sale: a fifth of all.
LEFT_OUT_WEIGHT = 0.25


@dataclass(frozen=True, eq=False)
class Thing:
    """A labelled thing; without a product it is not for sale."""

    row: int
    looks: Sequence[Look]
    product_id: str


@dataclass(frozen=True)
class Learned:
    """What came of a calibration."""

    revision: int
    things: int
    not_for_sale: int
    before: Quality
    after: Quality


@dataclass(frozen=True, eq=False)
class _Ranked:
    """A thing's products with colours and without, and the same without the right product."""

    thing: Thing
    found: Sequence[Candidate]
    found_plain: Sequence[Candidate]
    left_out: Sequence[Candidate]
    left_out_plain: Sequence[Candidate]


class Calibrator:
    """Calibrates catalogues."""

    def __init__(self, index: VectorIndex, embedder: Embedder, locks: CatalogLocks) -> None:
        self._index = index
        self._embedder = embedder
        self._locks = locks

    async def look(
        self, labelled: AsyncIterator[T], read: Callable[[T], Awaitable[Sequence[View]]]
    ) -> AsyncIterator[tuple[T, list[Look]]]:
        """Yield each of the labelled in order, with what its pictures look like to the model; several in work."""
        in_work: deque[tuple[T, asyncio.Task[list[Look]]]] = deque()

        async def one(item: T) -> list[Look]:
            return await self._embedded(await read(item))

        try:
            async for item in labelled:
                in_work.append((item, asyncio.create_task(one(item))))
                if len(in_work) >= _IN_WORK:
                    yield in_work[0][0], await in_work[0][1]
                    in_work.popleft()
            while in_work:
                yield in_work[0][0], await in_work[0][1]
                in_work.popleft()
        finally:
            for _, task in in_work:
                task.cancel()
            await asyncio.gather(*(task for _, task in in_work), return_exceptions=True)

    async def _embedded(self, views: Sequence[View]) -> list[Look]:
        pictures: list[Pixels] = [view.picture for view in views if view.picture is not None]
        embeddings = await self._embedder.embed(pictures)
        return [Look(embedding, view.colour) for embedding, view in zip(embeddings, views, strict=True)]

    async def calibrate(self, record: CatalogRecord, things: Sequence[Thing]) -> Learned:
        """Learn from things, and let matches use it.

        Raises:
            FailedPreconditionError: The catalogue is empty, or too old.
            InvalidRequestError: A thing's product is not in the catalogue.
        """
        if not record.rooted:
            raise FailedPreconditionError(
                f"{catalog_name(record.catalog_id)} was made before catalogues could be calibrated: import its products"
                " into a new one",
                reason="CATALOG_TOO_OLD",
            )
        if not things:
            raise InvalidRequestError([Violation("thing", f"must be 1..{MAX_THINGS} things, and is 0")])
        await self._check_products(record, things)
        references = await self._index.some_vectors(record.store, _REFERENCES)
        if not references:
            raise FailedPreconditionError(
                f"{catalog_name(record.catalog_id)} holds no products: import them first", reason="CATALOG_EMPTY"
            )
        before = fit_of(record)
        centring = _centring(record, references, things)
        ranked = await self._rank(record, centring, things)
        fit = Fit(centring, _calibration(ranked, before.calibration))
        ranked_before = await self._rank(record, before.centring, things)
        revision = await self._store(record.catalog_id, fit.to_text())
        return Learned(
            revision=revision,
            things=len(things),
            not_for_sale=sum(not thing.product_id for thing in things),
            before=quality_of(_answers(ranked_before, before.calibration)),
            after=quality_of(_answers(ranked, fit.calibration)),
        )

    async def reset(self, record: CatalogRecord) -> int:
        """Forget a calibration; return the revision without it."""
        return await self._store(record.catalog_id, "")

    async def _store(self, catalog_id: str, fit: str) -> int:
        async with self._locks.catalog(catalog_id):
            if await self._index.get_catalog(catalog_id) is None:
                raise CatalogGoneError(catalog_id)
            record = await self._index.advance(catalog_id, attribute_keys=frozenset(), updated=now(), fit=fit)
            await self._index.write(record.store, [], revision=record.revision)
        return record.revision

    async def _check_products(self, record: CatalogRecord, things: Sequence[Thing]) -> None:
        wanted = sorted({thing.product_id for thing in things if thing.product_id})
        known: set[str] = set()
        for start in range(0, len(wanted), 1000):
            known |= set(await self._index.get_products(record.store, wanted[start : start + 1000]))
        wrong = [
            Violation(
                f"thing[{thing.row}].product_id",
                f"must be a product of {catalog_name(record.catalog_id)}, or empty if it has none: {thing.product_id}",
            )
            for thing in things
            if thing.product_id and thing.product_id not in known
        ]
        if wrong:
            raise InvalidRequestError(wrong)

    async def _rank(self, record: CatalogRecord, centring: Centring | None, things: Sequence[Thing]) -> list[_Ranked]:
        comparer, slots = Comparer(self._index, record, centring), asyncio.Semaphore(_IN_WORK)

        async def one(thing: Thing) -> _Ranked:
            async with slots:
                views = await comparer.compare(thing.looks, where=(), enough=_CANDIDATES)
            others = [_without(view, thing.product_id) for view in views]
            return _Ranked(thing, rank(views), rank(_plain(views)), rank(others), rank(_plain(others)))

        tasks = [asyncio.create_task(one(thing)) for thing in things]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


def _centring(record: CatalogRecord, references: Sequence[ImageVectors], things: Sequence[Thing]) -> Centring:
    embedder, shipped = everyday()
    known = shipped.centring.references if shipped.centring and record.embedder == embedder else None
    own = fit_means(references, known, prior_images=REFERENCES_PRIOR)
    seen = [
        ImageVectors(rooted(look.embedding), look.colour)
        for thing in things
        for look in thing.looks
        if look.colour is not None
    ]
    return Centring(own, fit_means(seen, own, prior_images=QUERIES_PRIOR) if seen else own)


def _calibration(ranked: Sequence[_Ranked], prior: Calibration) -> Calibration:
    # What a fifth of left-out products stands for is known better where the caller said which things are not for sale.
    leave_out = all(one.thing.product_id for one in ranked)

    def learned(*, plain: bool) -> list[Example]:
        found = []
        for one in ranked:
            first = (one.found_plain if plain else one.found)[:1]
            other = (one.left_out_plain if plain else one.left_out)[:1] if leave_out else []
            found += [Example(it.score, it.margin, it.product_id == one.thing.product_id) for it in first]
            found += [Example(it.score, it.margin, right=False, weight=LEFT_OUT_WEIGHT) for it in other]
        return found

    return Calibration(
        with_colour=fit_logistic(learned(plain=False), prior.with_colour),
        plain=fit_logistic(learned(plain=True), prior.plain),
    )


def _answers(ranked: Sequence[_Ranked], calibration: Calibration) -> list[Answer]:
    answers = []
    for one in ranked:
        first = one.found[0] if one.found else None
        sure = calibration.confidence(first.score, first.margin, with_colour=True) if first else 0.0
        ids = [candidate.product_id for candidate in one.found]
        place = ids.index(one.thing.product_id) if one.thing.product_id in ids else None
        answers.append(Answer(sure, place, for_sale=bool(one.thing.product_id)))
    return answers


def _without(view: ViewHits, product_id: str) -> ViewHits:
    return replace(view, images=[image for image in view.images if image.product_id != product_id])


def _plain(views: Sequence[ViewHits]) -> list[ViewHits]:
    return [replace(view, colours=None) for view in views]
