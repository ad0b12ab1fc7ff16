"""Fits the matcher's confidence: `python tools/fit_confidence.py --grocery DIR --out FILE`.

FILE is services/shoppable/matcher/confidence.json.

Labelled pictures are ranked as the matcher ranks them, and a logistic function of score and margin is fitted to
whether a product is the right one. The pictures are the grocery data set's `train.txt` (never `val.txt`, which is for
evaluation) and the sample film's crops at their true boxes; alone, and four of one product together as a track's
views. Every fourth query is asked a second time with its product left out of the catalogue, so that "none of these" is
learned too. The sets weigh the same whatever their size. With `--report` it prints what comes of it.

Needs the extras `local` and `orchestrator` (onnxruntime, av, scipy).
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image
from scipy.optimize import minimize

from shoppable.matcher import colour
from shoppable.matcher.calibration import Calibration, parse_calibration
from shoppable.matcher.ports import ImageHit
from shoppable.matcher.scoring import Candidate, ViewHits, rank

ROOT = Path(__file__).parents[1]
SIDE = 260
EVERY_NTH_FRAME = 4
VIEWS = 4  # of a track
ABSENT_EVERY = 4  # queries; a fifth of all that is learned has no right product
PRODUCTS_LEARNED = 5  # of each query's ranking
# Keeps weights finite where a set is separated perfectly.
RIDGE = 1e-3

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Described:
    """A labelled picture."""

    product_id: str
    embedding: Floats
    colour: Floats


@dataclass(frozen=True)
class LabelledSet:
    """A catalogue and queries to it."""

    name: str
    catalog: Sequence[Described]
    queries: Sequence[Described]


class Describer:
    """Embeds pictures as the service does."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def __call__(self, product_id: str, picture: Image.Image) -> Described:
        """Describe a picture of a product."""
        pixels = np.asarray(picture.convert("RGB"))
        square = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        embedding = self._session.run(None, {"images": square[None]})[0][0]
        return Described(product_id, embedding / np.linalg.norm(embedding), colour.describe(pixels))


def film_set(samples: Path, describe: Describer, *, margin: float) -> LabelledSet:
    """Return the sample catalogue and the film's products, cropped with a margin (a share of the box)."""
    catalog = [
        describe(product["product_id"], Image.open(samples / path))
        for product in map(json.loads, (samples / "catalog.jsonl").read_text().splitlines())
        for path in product["images"]
    ]
    truth = json.loads((samples / "ground_truth.json").read_text())
    queries: list[Described] = []
    with av.open(str(samples / truth["film"])) as container:
        for frame, facts in zip(container.decode(video=0), truth["frames"], strict=True):
            if facts["frame"] % EVERY_NTH_FRAME:
                continue
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            queries.extend(
                describe(product["product_id"], crop(picture, product["box"], margin))
                for product in facts["products"]
                if product["visibility"] >= 0.5
            )
    return LabelledSet(f"film, margin {margin:g}", catalog, queries)


def crop(picture: Image.Image, box: Sequence[float], margin: float) -> Image.Image:
    """Cut a box (pixels) with a margin out of a picture."""
    left, top, right, bottom = box
    across, down = (right - left) * margin, (bottom - top) * margin
    return picture.crop(
        (
            round(max(0, left - across)),
            round(max(0, top - down)),
            round(min(picture.width, right + across)),
            round(min(picture.height, bottom + down)),
        )
    )


def grocery_set(folder: Path, part: str, describe: Describer) -> LabelledSet:
    """Return the iconic pictures as catalogue and one part's store photos as queries."""
    rows = [line.split(",") for line in (folder / "classes.csv").read_text().splitlines()[1:]]
    catalog = [describe(row[1], Image.open(folder / row[4].lstrip("/"))) for row in rows]
    lines = [[cell.strip() for cell in line.split(",")] for line in (folder / part).read_text().splitlines()]
    queries = [describe(product_id, Image.open(folder / path)) for path, product_id, _ in lines]
    return LabelledSet(f"grocery {part}", catalog, queries)


def tracks(queries: Sequence[Described], views: int) -> Iterator[Sequence[Described]]:
    """Yield queries of several views of one product each, as many as the pictures give without repeats."""
    by_product: dict[str, list[Described]] = defaultdict(list)
    for query in queries:
        by_product[query.product_id].append(query)
    for product_id in sorted(by_product):
        own = by_product[product_id]
        step = max(1, len(own) // views)
        for start in range(min(step, len(own))):
            chosen = own[start::step][:views]
            if len(chosen) == views or views == 1:
                yield chosen


def ranking(catalog: Sequence[Described], views: Sequence[Described], *, with_colour: bool) -> list[Candidate]:
    """Rank the catalogue as the matcher does."""
    embeddings = np.stack([image.embedding for image in catalog])
    colours = np.stack([image.colour for image in catalog])
    hits = []
    for view in views:
        likeness, tint = embeddings @ view.embedding, colours @ view.colour
        images = [
            ImageHit(image.product_id, str(place), "", "", float(likeness[place]))
            for place, image in enumerate(catalog)
        ]
        by_image = {(image.product_id, str(place)): float(tint[place]) for place, image in enumerate(catalog)}
        hits.append(ViewHits(images, by_image if with_colour else None))
    return rank(hits)


def examples(labelled: LabelledSet, *, with_colour: bool) -> tuple[Floats, Floats]:
    """Return rows of 1, score and margin of the ranked products, and whether each is the right one."""
    rows, right = [], []
    for views in (1, VIEWS):
        for number, query in enumerate(tracks(labelled.queries, views)):
            product_id = query[0].product_id
            absent = [image for image in labelled.catalog if image.product_id != product_id]
            for catalog in (labelled.catalog, absent) if number % ABSENT_EVERY == 0 else (labelled.catalog,):
                for candidate in ranking(catalog, query, with_colour=with_colour)[:PRODUCTS_LEARNED]:
                    rows.append((1.0, candidate.score, candidate.margin or 0.0))
                    right.append(float(candidate.product_id == product_id))
    return np.array(rows), np.array(right)


def fit(sets: Sequence[tuple[Floats, Floats]]) -> dict[str, float]:
    """Return the logistic function that loses least, each set counting the same; weights are not negative."""
    rows = np.concatenate([rows for rows, _ in sets])
    right = np.concatenate([right for _, right in sets])
    weight = np.concatenate([np.full(len(right), 1 / len(right)) for _, right in sets])

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        logits = rows @ coefficients
        lost = weight @ (np.logaddexp(0, logits) - right * logits) + RIDGE * coefficients[1:] @ coefficients[1:] / 1e3
        slope = rows.T @ (weight * (1 / (1 + np.exp(-logits)) - right))
        slope[1:] += 2 * RIDGE * coefficients[1:] / 1e3
        return float(lost), slope

    found = minimize(loss, np.array([-5.0, 5.0, 20.0]), jac=True, bounds=[(None, None), (0, None), (0, None)])
    return {name: round(float(value), 4) for name, value in zip(("intercept", "score", "margin"), found.x, strict=True)}


def report(labelled: LabelledSet, calibration: Calibration, say: Callable[[str], None]) -> None:
    """Print recall, and how the confidences fall."""
    for views in (1, VIEWS):
        places, sure = [], []
        for query in tracks(labelled.queries, views):
            found = ranking(labelled.catalog, query, with_colour=True)
            places.append([candidate.product_id for candidate in found].index(query[0].product_id))
            first = found[0]
            sure.append(calibration.confidence(first.score, first.margin, with_colour=True))
        place, confidence = np.array(places), np.array(sure)
        right, called = place == 0, confidence >= 0.5
        bins = np.clip((confidence * 10).astype(int), 0, 9)
        error = sum(
            abs(confidence[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean()
            for one in range(10)
            if (bins == one).any()
        )
        precision = (right & called).sum() / max(1, called.sum())
        say(
            f"{labelled.name:22s} {views} view(s) {len(place):4d} queries: recall@1 {right.mean():.3f}"
            f" @5 {(place < 5).mean():.3f}; called MATCH {called.mean():.3f}, of these right {precision:.3f};"
            f" right ones called MATCH {(right & called).sum() / max(1, right.sum()):.3f};"
            f" wrong ones not {(~right & ~called).sum() / max(1, (~right).sum()):.3f}; calibration error {error:.3f}"
        )


def main() -> None:
    """Fit, write and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grocery", type=Path, required=True, help="folder of the Grocery Store data set")
    parser.add_argument("--samples", type=Path, default=ROOT / "samples")
    parser.add_argument("--model", type=Path, default=ROOT / "deploy/triton/models/embedder/1/model.onnx")
    parser.add_argument("--out", type=Path, help="file to write; none: only report")
    parser.add_argument("--held-out", action="store_true", help="report on val.txt too: for evaluation only")
    given = parser.parse_args()
    describe = Describer(given.model)
    learned = [
        film_set(given.samples, describe, margin=0.0),
        film_set(given.samples, describe, margin=0.08),
        grocery_set(given.grocery, "train.txt", describe),
    ]
    values: dict[str, Any] = {
        "format": 1,
        "embedder": "embedder, version 1",
        "made_by": "tools/fit_confidence.py",
        "made_from": [f"{one.name}: {len(one.queries)} pictures, {len(one.catalog)} references" for one in learned],
    }
    # The film is in there twice, with two croppings: together they weigh as much as the store photos.
    for kind, with_colour in (("with_colour", True), ("plain", False)):
        sets = [examples(one, with_colour=with_colour) for one in learned]
        film = tuple(np.concatenate(parts) for parts in zip(*sets[:2], strict=True))
        values[kind] = fit([(film[0], film[1]), sets[2]])
    print(json.dumps(values, indent=2))
    if given.out:
        given.out.write_text(json.dumps(values, indent=2) + "\n")
    calibration = parse_calibration(values)
    shown = [*learned, grocery_set(given.grocery, "val.txt", describe)] if given.held_out else learned
    for one in shown:
        report(one, calibration, print)


if __name__ == "__main__":
    main()
