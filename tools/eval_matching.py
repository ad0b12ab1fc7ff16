"""How right the matcher is, and whether it knows: `make eval-matching`, or `python tools/eval_matching.py --help`.

The sample film's crops at their true boxes (one, and four of a product as a track's views), and, where its folder is
given, the Grocery Store data set: one iconic picture for each of 81 products, store photos as queries. Each as the
package compares, with plain cosines as the first version did, and for the store photos calibrated on `train.txt` as
`shoppable catalog calibrate` does. Writes `matching.json` and `reliability.png`, and prints a table.

The calibration error is that of ten equal bins. A probability that is exactly right has one too, as queries are few:
`floor` is its mean when the outcomes are drawn from the confidences. `mixed` adds, at a quarter of the weight, each
query with its product left out: a fifth of the things are not for sale, which is what confidences are fitted to.
"""

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from fit_confidence import ABSENT_WEIGHT, examples
from matching_sets import MODEL, ROOT, VIEWS, Describer, LabelledSet, Ranker, film_set, grocery_set, tracks
from reliability_chart import draw

from shoppable.matcher.calibration import Calibration, Thresholds, load_calibration
from shoppable.matcher.centring import Centring
from shoppable.matcher.fits import Fit, everyday
from shoppable.matcher.fitting import QUERIES_PRIOR, REFERENCES_PRIOR, fit_logistic, fit_means

BINS = 10
_DRAWS = 200
_DECIDES = Thresholds()
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Queries of about one confidence."""

    confidence: float
    right: float
    share: float


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
    calibration_error: float
    calibration_error_floor: float
    calibration_error_mixed: float
    called_match: float  # share of queries, at the default threshold
    match_precision: float | None
    auroc_product_left_out: float
    auroc_group_left_out: float
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


def measure(labelled: LabelledSet, fit: Fit, way: str, views: int) -> Measured:
    """Ask all queries, with their product, without it, and without its whole kind."""
    ranker = Ranker(labelled.catalog, fit)
    sure, places, without, without_group = [], [], [], []

    def confidence(found: list) -> float:
        return fit.calibration.confidence(found[0].score, found[0].margin, with_colour=True)

    for query in tracks(labelled.queries, views):
        found = ranker(query)
        places.append([one.product_id for one in found].index(query[0].product_id))
        sure.append(confidence(found))
        without.append(confidence(ranker(query, without=query[0].product_id)))
        without_group.append(confidence(ranker(query, without_group=query[0].group)))
    place, confident = np.array(places), np.array(sure)
    absent, strangers = np.array(without), np.array(without_group)
    right = (place == 0).astype(float)
    called = confident >= _DECIDES.match
    mixed = np.concatenate([confident, absent]), np.concatenate([right, 0 * right])
    weights = np.concatenate([np.ones(len(right)), np.full(len(right), ABSENT_WEIGHT)])
    return Measured(
        name=labelled.name,
        way=way,
        views=views,
        queries=len(place),
        recall_1=float((place < 1).mean()),
        recall_5=float((place < 5).mean()),
        recall_10=float((place < 10).mean()),
        mean_average_precision=float((1 / (place + 1)).mean()),
        calibration_error=calibration_error(confident, right),
        calibration_error_floor=floor(confident),
        calibration_error_mixed=calibration_error(*mixed, weights),
        called_match=float(called.mean()),
        match_precision=_precision(right, called),
        auroc_product_left_out=auroc(confident, absent),
        auroc_group_left_out=auroc(confident, strangers),
        left_out_no_match=float((strangers < _DECIDES.similar).mean()),
        left_out_match=float((strangers >= _DECIDES.match).mean()),
        precision_at={
            f"{at / 10:.1f}": (float((confident >= at / 10).mean()), _precision(right, confident >= at / 10))
            for at in range(10)
        },
        reliability=reliability(confident, right),
    )


def reliability(confident: Numbers, right: Numbers, weights: Numbers | None = None) -> list[Bin]:
    """Return the bins that have queries."""
    weights = np.ones(len(right)) if weights is None else weights
    bins = np.clip((confident * BINS).astype(int), 0, BINS - 1)
    return [
        Bin(
            float(np.average(confident[bins == one], weights=weights[bins == one])),
            float(np.average(right[bins == one], weights=weights[bins == one])),
            float(weights[bins == one].sum() / weights.sum()),
        )
        for one in range(BINS)
        if (bins == one).any()
    ]


def calibration_error(confident: Numbers, right: Numbers, weights: Numbers | None = None) -> float:
    """Return the expected calibration error (Naeini et al., AAAI 2015)."""
    return sum(abs(one.confidence - one.right) * one.share for one in reliability(confident, right, weights))


def floor(confident: Numbers) -> float:
    """Return the mean calibration error of outcomes that follow the confidences exactly."""
    chance = np.random.default_rng(0)
    drawn = (calibration_error(confident, (chance.random(len(confident)) < confident) * 1.0) for _ in range(_DRAWS))
    return float(np.mean(list(drawn)))


def auroc(known: Numbers, unknown: Numbers) -> float:
    """Return the chance that a thing in the catalogue is surer than one that is not (Mann and Whitney's statistic)."""
    above = (known[:, None] > unknown[None]).mean() + 0.5 * (known[:, None] == unknown[None]).mean()
    return float(above)


def calibrated_on(labelled: LabelledSet) -> Fit:
    """Return what `shoppable catalog calibrate` makes of labelled pictures."""
    _, shipped = everyday()
    before = shipped.centring.references if shipped.centring else None
    references = fit_means([one.vectors for one in labelled.catalog], before, prior_images=REFERENCES_PRIOR)
    queries = fit_means([one.vectors for one in labelled.queries], references, prior_images=QUERIES_PRIOR)
    start = Fit(Centring(references, queries), shipped.calibration)
    things = len(labelled.queries) * (1 + ABSENT_WEIGHT)
    functions = [
        fit_logistic(examples(labelled, start, with_colour=colour, weight=things), prior)
        for colour, prior in ((True, shipped.calibration.with_colour), (False, shipped.calibration.plain))
    ]
    return Fit(start.centring, Calibration(*functions))


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
    runs = [(one, fit, way) for one in sets for fit, way in ((plain, "plain cosines"), (shipped, "as shipped"))]
    if (given.grocery / "classes.csv").exists():
        train, val = (grocery_set(given.grocery, f"{part}.txt", describe) for part in ("train", "val"))
        own = calibrated_on(train)
        ways = ((plain, "plain cosines"), (shipped, "as shipped"), (own, "calibrated on train"))
        runs += [(one, fit, way) for one in (train, val) for fit, way in ways]
    else:
        print(f"skipping the groceries: there is no {given.grocery / 'classes.csv'} (see --grocery)")
    results = [measure(one, fit, way, views) for one, fit, way in runs for views in (1, VIEWS)]
    hinted = [measure_hints(one, shipped) for one in sets]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "matching.json").write_text(json.dumps([asdict(one) for one in (*results, *hinted)], indent=2) + "\n")
    draw(results, given.out / "reliability.png")
    print("set, way, views, queries: recall@1/5/10, mAP; called MATCH, right; calibration error (floor, mixed);")
    print("    AUROC with the product, its kind left out; of the latter called NO_MATCH, MATCH")
    for one in results:
        precise = "   -" if one.match_precision is None else f"{one.match_precision:.2f}"
        print(
            f"{one.name:17s} {one.way:19s} {one.views} {one.queries:4d}: {one.recall_1:.2f}/{one.recall_5:.2f}"
            f"/{one.recall_10:.2f} {one.mean_average_precision:.2f}; {one.called_match:.2f} {precise};"
            f" {one.calibration_error:.3f} ({one.calibration_error_floor:.3f}, {one.calibration_error_mixed:.3f});"
            f" {one.auroc_product_left_out:.2f} {one.auroc_group_left_out:.2f};"
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
