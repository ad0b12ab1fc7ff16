"""Makes what the matcher knows before it is calibrated: `python tools/fit_confidence.py --grocery DIR --everyday DIR`.

Two things, written to services/shoppable/matcher/everyday.json:

- The means that are subtracted from embeddings and colours: of things cut out of everyday photos (a folder with boxes
  as YOLO's text labels, COCO128's layout), the same for references and for queries. Neither the film nor the groceries
  are in them.
- The confidence: a logistic function of score and margin, fitted to whether a ranking's first product is the right one,
  on the grocery data set's `train.txt` (never `val.txt`, which is for evaluation) and the sample film's crops at their
  true boxes; alone, and four of one product together as a track's views. Each query is asked a second time with its
  product left out, at a quarter of the weight, so that a fifth of what is learned is "none of these". Film and store
  photos weigh the same.

`make eval-matching` tells what comes of it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from matching_sets import (
    MODEL,
    ROOT,
    VIEWS,
    Describer,
    LabelledSet,
    Ranker,
    everyday_things,
    film_set,
    grocery_set,
    tracks,
)

from shoppable.matcher.calibration import Calibration, Logistic
from shoppable.matcher.centring import Centring
from shoppable.matcher.fits import Fit
from shoppable.matcher.fitting import Example, fit_logistic, fit_means

ABSENT_WEIGHT = 0.25  # of a query whose product is left out: a fifth of all
LEARNED_THINGS = 10_000  # what the examples weigh together: the prior is for catalogues with few labels
OUT = ROOT / "services/shoppable/matcher/everyday.json"
_UNKNOWING = Logistic(intercept=-3.0, score=5.0, margin=10.0)


def examples(
    labelled: LabelledSet, fit: Fit, *, with_colour: bool, weight: float, absent_weight: float = ABSENT_WEIGHT
) -> list[Example]:
    """Return the first products of all queries, with and without the right one; their weights add up to `weight`."""
    ranker = Ranker(labelled.catalog, fit, with_colour=with_colour)
    found: list[tuple[float, float | None, bool, float]] = []
    for views in (1, VIEWS):
        for query in tracks(labelled.queries, views):
            product_id = query[0].product_id
            first, other = ranker(query)[0], ranker(query, without=product_id)[0]
            found.append((first.score, first.margin, first.product_id == product_id, 1.0))
            found.append((other.score, other.margin, False, absent_weight))
    total = sum(one[3] for one in found)
    return [Example(score, margin, right, share * weight / total) for score, margin, right, share in found]


def calibrated(sets: Sequence[tuple[LabelledSet, float]], centring: Centring) -> Fit:
    """Return the fit of these means that the weighted sets teach."""
    start = Fit(centring, Calibration(_UNKNOWING, _UNKNOWING))
    functions = [
        fit_logistic(
            [one for labelled, weight in sets for one in examples(labelled, start, with_colour=colour, weight=weight)],
            _UNKNOWING,
        )
        for colour in (True, False)
    ]
    return Fit(centring, Calibration(*functions))


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grocery", type=Path, required=True, help="folder of the Grocery Store data set")
    parser.add_argument("--everyday", type=Path, required=True, help="folder of photos with boxes")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--cache", type=Path, help="folder to keep embeddings in")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    describe = Describer(given.model, given.cache)
    things = everyday_things(given.everyday, describe)
    means = fit_means([thing.vectors for thing in things], None, prior_images=0)
    sets = [
        (film_set(describe, margin=0.0), LEARNED_THINGS / 4),
        (film_set(describe, margin=0.08), LEARNED_THINGS / 4),
        (grocery_set(given.grocery, "train.txt", describe), LEARNED_THINGS / 2),
    ]
    fit = calibrated(sets, Centring(means, means))
    values = {
        "embedder": {"name": "embedder", "version": "1", "size": len(means.embedding)},
        "made_by": "tools/fit_confidence.py",
        "made_from": [
            f"means: {len(things)} things of everyday photos",
            *(f"confidence: {one.name}, {len(one.queries)} pictures, {len(one.catalog)} references" for one, _ in sets),
        ],
        **json.loads(fit.to_text()),
    }
    given.out.write_text(json.dumps(values, indent=2) + "\n")
    print(json.dumps(values["confidence"], indent=2))


if __name__ == "__main__":
    main()
