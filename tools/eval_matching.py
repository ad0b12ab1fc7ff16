"""How right the matcher is, and whether it knows: `make eval-matching`, or `python tools/eval_matching.py --help`.

The sample film's crops at their true boxes (one, and four of a product as a track's views), and, where its folder is
given, the Grocery Store data set: one iconic picture for each of 81 products, store photos as queries. Each as the
package compares, with plain cosines as the first version did, and for the store photos calibrated on `train.txt` as
`shoppable catalog calibrate` does. Writes `matching.json` and `reliability.png`, and prints a table.

Calibrated photos are always ones that were not learned from: `train` by fifths, `val` as it is. Photos added as
references are taken from `train`, and not calibrated on.

The calibration error is that of ten equal bins, on queries whose product is for sale. `mixed` adds, at a quarter of the
weight, each query with its product left out: a fifth of the things are not for sale, which confidences are fitted to
unless the calibration is told that all are for sale. `calibration_measures` says what chance does to both.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from calibration_measures import (
    Bin,
    CalibrationError,
    Numbers,
    auroc,
    calibration_error,
    equal_parts,
    reliability,
)
from fit_confidence import ABSENT_WEIGHT, examples
from matching_sets import (
    MODEL,
    ROOT,
    VIEWS,
    Described,
    Describer,
    LabelledSet,
    Ranker,
    film_set,
    grocery_set,
    split,
    tracks,
)
from reliability_chart import draw

from shoppable.matcher.calibration import Calibration, Thresholds, load_calibration
from shoppable.matcher.fits import Fit, everyday
from shoppable.matcher.fitting import fit_centring, fit_logistic
from shoppable.matcher.scoring import Candidate

_DECIDES = Thresholds()
_FOLDS = 5


@dataclass(frozen=True)
class Asked:
    """What came of queries: the right product's place, from 0, and how sure the first was, also with it left out."""

    places: Numbers
    sure: Numbers
    without_product: Numbers
    without_group: Numbers


@dataclass(frozen=True)
class Measured:
    """What came of one set."""

    name: str
    way: str
    views: int
    queries: int
    recall_1: float
    recall_5: float
    recall_10: float
    mean_average_precision: float  # one product is right: the mean of 1 / its place
    calibration_error: CalibrationError  # of queries whose product is for sale
    calibration_error_equal_parts: CalibrationError
    calibration_error_mixed: CalibrationError
    called_match: float  # share of queries, at the default threshold
    match_precision: float | None
    auroc_product_left_out: float
    auroc_group_left_out: float
    product_left_out_match: float  # share of the queries whose product is left out that are called a MATCH
    left_out_no_match: float  # share of the queries whose kind of product is left out that come back as NO_MATCH
    left_out_match: float
    precision_at: dict[str, tuple[float, float | None]] = field(default_factory=dict)  # confidence -> share, precision
    reliability: list[Bin] = field(default_factory=list)


@dataclass(frozen=True)
class Hinted:
    """What a detector's category does: right, wrong for every thing, and of a kind that the catalogue does not sell."""

    name: str
    right_recall_1: float
    right_called_match: float
    wrong_recall_1: float
    wrong_called_match: float
    unsold_no_match: float
    unsold_match: float


def measure_hints(labelled: LabelledSet, fit: Fit) -> Hinted:
    """Ask all queries with hints."""
    ranker, chance = Ranker(labelled.catalog, fit), np.random.default_rng(0)
    groups = sorted({image.group for image in labelled.catalog})
    rows = []
    for query in labelled.queries:
        wrong = chance.choice([group for group in groups if group != query.group])
        asked = (
            ranker([query], hint=query.group),
            ranker([query], hint=str(wrong)),
            ranker([query], hint=query.group, without_group=query.group),
        )
        for found in asked:
            sure = fit.calibration.confidence(found[0].score, found[0].margin, with_colour=True)
            rows.append((found[0].product_id == query.product_id, sure >= _DECIDES.match, sure < _DECIDES.similar))
    table = np.array(rows, float).reshape(-1, 3, 3).mean(axis=0)
    return Hinted(labelled.name, *(float(value) for value in (*table[0, :2], *table[1, :2], table[2, 2], table[2, 1])))


def ask(labelled: LabelledSet, fit: Fit, views: int) -> Asked:
    """Ask all queries, with their product, without it, and without its whole kind."""
    ranker = Ranker(labelled.catalog, fit)

    def confidence(found: list[Candidate]) -> float:
        return fit.calibration.confidence(found[0].score, found[0].margin, with_colour=True)

    rows = []
    for query in tracks(labelled.queries, views):
        own, found = query[0], ranker(query)
        rows.append(
            (
                [one.product_id for one in found].index(own.product_id),
                confidence(found),
                confidence(ranker(query, without=own.product_id)),
                confidence(ranker(query, without_group=own.group)),
            )
        )
    return Asked(*np.array(rows, float).reshape(-1, 4).T)


def measure(asked: Asked, name: str, way: str, views: int) -> Measured:
    """Sum up what came of a set's queries."""
    place, confident = asked.places, asked.sure
    right = (place == 0).astype(float)
    called = confident >= _DECIDES.match
    mixed = np.concatenate([confident, asked.without_product]), np.concatenate([right, 0 * right])
    weights = np.concatenate([np.ones(len(right)), np.full(len(right), ABSENT_WEIGHT)])
    return Measured(
        name=name,
        way=way,
        views=views,
        queries=len(place),
        recall_1=float((place < 1).mean()),
        recall_5=float((place < 5).mean()),
        recall_10=float((place < 10).mean()),
        mean_average_precision=float((1 / (place + 1)).mean()),
        calibration_error=calibration_error(confident, right),
        calibration_error_equal_parts=calibration_error(confident, right, over=equal_parts),
        calibration_error_mixed=calibration_error(*mixed, weights),
        called_match=float(called.mean()),
        match_precision=_precision(right, called),
        auroc_product_left_out=auroc(confident, asked.without_product),
        auroc_group_left_out=auroc(confident, asked.without_group),
        product_left_out_match=float((asked.without_product >= _DECIDES.match).mean()),
        left_out_no_match=float((asked.without_group < _DECIDES.similar).mean()),
        left_out_match=float((asked.without_group >= _DECIDES.match).mean()),
        precision_at={
            f"{at / 10:.1f}": (float((confident >= at / 10).mean()), _precision(right, confident >= at / 10))
            for at in range(10)
        },
        reliability=reliability(confident, right),
    )


def calibrated_on(labelled: LabelledSet, *, absent_weight: float = ABSENT_WEIGHT) -> Fit:
    """Return what `shoppable catalog calibrate` makes of labelled pictures."""
    _, shipped = everyday()
    before = shipped.centring.references if shipped.centring else None
    pictures = ([one.vectors for one in side] for side in (labelled.catalog, labelled.queries))
    start = Fit(fit_centring(*pictures, before), shipped.calibration)
    things = len(labelled.queries) * (1 + absent_weight)
    functions = [
        fit_logistic(examples(labelled, start, with_colour=colour, weight=things, absent_weight=absent_weight), prior)
        for colour, prior in ((True, shipped.calibration.with_colour), (False, shipped.calibration.plain))
    ]
    return Fit(start.centring, Calibration(*functions))


def ask_unseen(labelled: LabelledSet, *, absent_weight: float) -> Asked:
    """Ask each fifth of the queries by what was calibrated on the others."""
    parts = split(labelled, _FOLDS)
    rows = []
    for place, part in enumerate(parts):
        others = [query for other in parts[:place] + parts[place + 1 :] for query in other.queries]
        fit = calibrated_on(replace(labelled, queries=others), absent_weight=absent_weight)
        rows.append(ask(part, fit, 1))  # a fifth has too few of a product for a track's views
    return together(rows)


def together(parts: Sequence[Asked]) -> Asked:
    """Return the queries of several sets as one."""
    return Asked(*(np.concatenate(values) for values in zip(*map(astuple, parts), strict=True)))


def with_photos(labelled: LabelledSet, photos: int) -> LabelledSet:
    """Move so many queries of each product to its references."""
    taken: dict[str, list[Described]] = defaultdict(list)
    rest = []
    for query in labelled.queries:
        own = taken[query.product_id]
        (own if len(own) < photos else rest).append(query)
    moved = [query for own in taken.values() for query in own]
    return replace(labelled, catalog=[*labelled.catalog, *moved], queries=rest)


def measure_groceries(folder: Path, describe: Describer, plain: Fit, shipped: Fit) -> list[Measured]:
    """Measure the store photos, calibrated ones always on photos that nothing was learned from."""
    train, val = (grocery_set(folder, f"{part}.txt", describe) for part in ("train", "val"))
    results = [
        measure(ask(one, fit, views), one.name, way, views)
        for one in (train, val)
        for fit, way in ((plain, "plain cosines"), (shipped, "as shipped"))
        for views in (1, VIEWS)
    ]
    for weight, told in ((ABSENT_WEIGHT, "calibrated"), (0.0, "calibrated, all for sale")):
        own = calibrated_on(train, absent_weight=weight)
        unseen = [ask_unseen(train, absent_weight=weight), ask(val, own, 1)]
        named = zip((train.name, val.name, "grocery, both"), (*unseen, together(unseen)), strict=True)
        results += [measure(asked, name, told, 1) for name, asked in named]
        results.append(measure(ask(val, own, VIEWS), val.name, told, VIEWS))
    for photos in (1, 4):
        taught = with_photos(train, photos)
        for weight, told in ((ABSENT_WEIGHT, ""), (0.0, ", all for sale")):
            asked = ask(replace(val, catalog=taught.catalog), calibrated_on(taught, absent_weight=weight), 1)
            results.append(measure(asked, val.name, f"photos added: {photos}{told}", 1))
    return results


def _precision(right: Numbers, called: npt.NDArray[np.bool_]) -> float | None:
    return float(right[called].mean()) if called.any() else None


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grocery", type=Path, default=ROOT.parent / "shared/data/grocery", help="folder of the data")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--cache", type=Path, default=ROOT / ".build/embeddings", help="folder to keep embeddings in")
    parser.add_argument("--out", type=Path, default=ROOT / ".build/matching", help="folder of the report")
    given = parser.parse_args()
    describe = Describer(given.model, given.cache)
    sets = [film_set(describe, margin=0.0), film_set(describe, margin=0.08)]
    _, shipped = everyday()
    plain = Fit(None, load_calibration())
    results = [
        measure(ask(one, fit, views), one.name, way, views)
        for one in sets
        for fit, way in ((plain, "plain cosines"), (shipped, "as shipped"))
        for views in (1, VIEWS)
    ]
    if (given.grocery / "classes.csv").exists():
        results += measure_groceries(given.grocery, describe, plain, shipped)
    else:
        print(f"skipping the groceries: there is no {given.grocery / 'classes.csv'} (see --grocery)")
    hinted = [measure_hints(one, shipped) for one in sets]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "matching.json").write_text(json.dumps([asdict(one) for one in (*results, *hinted)], indent=2) + "\n")
    draw(results, given.out / "reliability.png")
    print("set, way, views, queries: recall@1/5/10, mAP; called MATCH, right; calibration error [90 % of samples] (by")
    print(
        "    chance), mixed (by chance); AUROC with the product, its kind left out; called MATCH without the product;"
    )
    print("    without its kind called NO_MATCH, MATCH")
    for one in results:
        precise = "   -" if one.match_precision is None else f"{one.match_precision:.2f}"
        error, mixed = one.calibration_error, one.calibration_error_mixed
        print(
            f"{one.name:17s} {one.way:25s} {one.views} {one.queries:4d}: {one.recall_1:.2f}/{one.recall_5:.2f}"
            f"/{one.recall_10:.2f} {one.mean_average_precision:.2f}; {one.called_match:.2f} {precise};"
            f" {error.value:.3f} [{error.low:.2f}-{error.high:.2f}] ({error.by_chance:.3f}),"
            f" {mixed.value:.3f} ({mixed.by_chance:.3f});"
            f" {one.auroc_product_left_out:.2f} {one.auroc_group_left_out:.2f}; {one.product_left_out_match:.2f};"
            f" {one.left_out_no_match:.2f} {one.left_out_match:.2f}"
        )
    for one in hinted:
        print(
            f"{one.name}, with hints: right ones, recall@1 {one.right_recall_1:.2f}, called MATCH"
            f" {one.right_called_match:.2f}; all wrong, {one.wrong_recall_1:.2f}, {one.wrong_called_match:.2f};"
            f" kind left out, called NO_MATCH {one.unsold_no_match:.2f}, MATCH {one.unsold_match:.2f}"
        )
    print(f"written: {given.out / 'matching.json'}, {given.out / 'reliability.png'}")


if __name__ == "__main__":
    main()
