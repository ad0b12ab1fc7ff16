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
from shoppable.matcher.fitting import Example, fit_centring, fit_logistic
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
# Of the things that will be met, where nobody said more: things are learned from with their product left out, too.
NOT_FOR_SALE_SHARE = 0.2


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

    async def calibrate(
        self, record: CatalogRecord, things: Sequence[Thing], *, not_for_sale_share: float | None = None
    ) -> Learned:
        """Learn from things, and let matches use it.

        `not_for_sale_share`, 0..0.9, is of the things that will be met; None leaves it to the labels.

        Raises:
            FailedPreconditionError: The catalogue is empty, or too old.
            InvalidRequestError: A thing's product is not in the catalogue, or the labels say the share themselves.
        """
        if not record.rooted:
            raise FailedPreconditionError(
                f"{catalog_name(record.catalog_id)} was made before catalogues could be calibrated: import its products"
                " into a new one",
                reason="CATALOG_TOO_OLD",
            )
        if not things:
            raise InvalidRequestError([Violation("thing", f"must be 1..{MAX_THINGS} things, and is 0")])
        left_out_weight = _left_out_weight(things, not_for_sale_share)
        await self._check_products(record, things)
        references = await self._index.some_vectors(record.store, _REFERENCES)
        if not references:
            raise FailedPreconditionError(
                f"{catalog_name(record.catalog_id)} holds no products: import them first", reason="CATALOG_EMPTY"
            )
        before = fit_of(record)
        centring = _centring(record, references, things)
        ranked = await self._rank(record, centring, things)
        fit = Fit(centring, _calibration(ranked, before.calibration, left_out_weight))
        ranked_before = await self._rank(record, before.centring, things)
        revision = await self._store(record.catalog_id, fit.to_text())
        return Learned(
            revision=revision,
            things=len(things),
            not_for_sale=sum(not thing.product_id for thing in things),
            before=quality_of(_answers(ranked_before, before.calibration, left_out_weight)),
            after=quality_of(_answers(ranked, fit.calibration, left_out_weight)),
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
    seen = [
        ImageVectors(rooted(look.embedding), look.colour)
        for thing in things
        for look in thing.looks
        if look.colour is not None
    ]
    return fit_centring(references, seen, known)


def _left_out_weight(things: Sequence[Thing], share: float | None) -> float:
    """Return how much a thing counts with its product left out: labels that name things not for sale know better."""
    if all(thing.product_id for thing in things):
        share = NOT_FOR_SALE_SHARE if share is None else share
        return share / (1 - share)
    if share is not None:
        raise InvalidRequestError(
            [Violation("config.not_for_sale_share", "must not be set: some of the labelled things have no product")]
        )
    return 0.0


def _calibration(ranked: Sequence[_Ranked], prior: Calibration, left_out_weight: float) -> Calibration:
    def learned(*, plain: bool) -> list[Example]:
        found = []
        for one in ranked:
            first = (one.found_plain if plain else one.found)[:1]
            other = (one.left_out_plain if plain else one.left_out)[:1] if left_out_weight else []
            found += [Example(it.score, it.margin, it.product_id == one.thing.product_id) for it in first]
            found += [Example(it.score, it.margin, right=False, weight=left_out_weight) for it in other]
        return found

    return Calibration(
        with_colour=fit_logistic(learned(plain=False), prior.with_colour),
        plain=fit_logistic(learned(plain=True), prior.plain),
    )


def _answers(ranked: Sequence[_Ranked], calibration: Calibration, left_out_weight: float) -> list[Answer]:
    def sure(found: Sequence[Candidate]) -> float:
        return calibration.confidence(found[0].score, found[0].margin, with_colour=True) if found else 0.0

    answers = []
    for one in ranked:
        ids = [candidate.product_id for candidate in one.found]
        place = ids.index(one.thing.product_id) if one.thing.product_id in ids else None
        answers.append(Answer(sure(one.found), place, for_sale=bool(one.thing.product_id)))
        if left_out_weight:
            answers.append(Answer(sure(one.left_out), None, for_sale=False, weight=left_out_weight))
    return answers


def _without(view: ViewHits, product_id: str) -> ViewHits:
    return replace(view, images=[image for image in view.images if image.product_id != product_id])


def _plain(views: Sequence[ViewHits]) -> list[ViewHits]:
    return [replace(view, colours=None) for view in views]
