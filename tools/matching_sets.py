"""Labelled pictures to learn and to measure matching by: the sample film's crops, and the Grocery Store data set.

What a model says of a picture is kept on disk (`--cache`), so that the second run takes seconds. Needs the extras
`local` and `orchestrator` (onnxruntime, av).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import onnxruntime
from PIL import Image

from shoppable.matcher.centring import rooted
from shoppable.matcher.fits import Fit
from shoppable.matcher.pictures import prepare
from shoppable.matcher.ports import Floats, ImageHit, ImageVectors, Pixels, Space
from shoppable.matcher.scoring import Candidate, ViewHits, rank

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
MODEL = ROOT / "deploy/triton/models/embedder/1/model.onnx"
SIDE = 260
VIEWS = 4  # of a track
_EVERY_NTH_FRAME = 4
_LEAST_SIDE = 40  # pixels of a thing that is worth a crop


@dataclass(frozen=True, eq=False)
class Described:
    """A labelled picture; `group` is the kind of its product."""

    product_id: str
    group: str
    raw: Floats  # as the model gives it
    vectors: ImageVectors  # as they are stored


@dataclass(frozen=True)
class LabelledSet:
    """A catalogue and queries to it."""

    name: str
    catalog: Sequence[Described]
    queries: Sequence[Described]


class Describer:
    """Embeds pictures as the service does."""

    def __init__(self, model: Path, cache: Path | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._cache = cache / hashlib.sha256(model.read_bytes()).hexdigest()[:16] if cache else None
        if self._cache:
            self._cache.mkdir(parents=True, exist_ok=True)

    def __call__(self, product_id: str, picture: Image.Image, group: str = "") -> Described:
        """Describe a picture of a product."""
        square, colours = prepare(picture.convert("RGB"), SIDE)
        raw = self._embedding(square)
        return Described(product_id, group, raw, ImageVectors(rooted(raw), colours))

    def _embedding(self, square: Pixels) -> Floats:
        kept = self._cache / f"{hashlib.sha256(square.tobytes()).hexdigest()}.npy" if self._cache else None
        if kept and kept.exists():
            found: Floats = np.load(kept)
            return found
        made = self._session.run(None, {"images": square[None]})[0][0]
        made = (made / np.linalg.norm(made)).astype(np.float32)
        if kept:
            np.save(kept, made)
        return made


def film_set(describe: Describer, *, margin: float) -> LabelledSet:
    """Return the sample catalogue and the film's products, cropped with a margin (a share of the box)."""
    rows = [json.loads(line) for line in (SAMPLES / "catalog.jsonl").read_text().splitlines()]
    groups = {row["product_id"]: row["category"] for row in rows}
    catalog = [
        describe(row["product_id"], Image.open(SAMPLES / path), row["category"])
        for row in rows
        for path in row["images"]
    ]
    truth = json.loads((SAMPLES / "ground_truth.json").read_text())
    queries: list[Described] = []
    with av.open(str(SAMPLES / truth["film"])) as container:
        for frame, facts in zip(container.decode(video=0), truth["frames"], strict=True):
            if facts["frame"] % _EVERY_NTH_FRAME:
                continue
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            queries.extend(
                describe(seen["product_id"], crop(picture, seen["box"], margin), groups[seen["product_id"]])
                for seen in facts["products"]
                if seen["visibility"] >= 0.5
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
    groups = {row[1]: row[3] for row in rows}
    catalog = [describe(row[1], Image.open(folder / row[4].lstrip("/")), row[3]) for row in rows]
    lines = [[cell.strip() for cell in line.split(",")] for line in (folder / part).read_text().splitlines()]
    queries = [describe(product_id, Image.open(folder / path), groups[product_id]) for path, product_id, _ in lines]
    return LabelledSet(f"grocery {part.removesuffix('.txt')}", catalog, queries)


def everyday_things(folder: Path, describe: Describer) -> list[Described]:
    """Return the things of a folder of photos with boxes as YOLO's text labels (COCO128's layout)."""
    found = []
    for path in sorted((folder / "images").rglob("*.jpg")):
        labels = folder / "labels" / f"{path.stem}.txt"
        if not labels.exists():  # nothing is in it
            continue
        with Image.open(path) as photo:
            picture = photo.convert("RGB")
        for line in labels.read_text().splitlines():
            kind, *numbers = line.split()
            x, y, width, height = (float(number) for number in numbers)
            across, down = width * picture.width, height * picture.height
            if min(across, down) >= _LEAST_SIDE:
                left, top = x * picture.width - across / 2, y * picture.height - down / 2
                found.append(describe(kind, crop(picture, (left, top, left + across, top + down), 0)))
    return found


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


def split(labelled: LabelledSet, parts: int) -> list[LabelledSet]:
    """Return a set's queries in parts; those of a product that follow each other, and so are alike, stay together."""
    queries: list[list[Described]] = [[] for _ in range(parts)]
    by_product: dict[str, list[Described]] = defaultdict(list)
    for query in labelled.queries:
        by_product[query.product_id].append(query)
    for offset, product_id in enumerate(sorted(by_product)):
        own = by_product[product_id]
        for place, query in enumerate(own):
            # Products with fewer pictures than parts do not all begin with the first.
            queries[(place * parts // len(own) + offset) % parts].append(query)
    return [replace(labelled, queries=part) for part in queries]


class Ranker:
    """Ranks a catalogue as the matcher does, all in memory; without means by plain cosines of what the model gave."""

    def __init__(self, catalog: Sequence[Described], fit: Fit, *, with_colour: bool = True) -> None:
        self._catalog, self._fit, self._with_colour = catalog, fit, with_colour
        self._sides = {space: self._side(catalog, space, of_queries=False) for space in Space}

    def __call__(
        self, views: Sequence[Described], *, without: str = "", without_group: str = "", hint: str = ""
    ) -> list[Candidate]:
        """Rank all products, or those other than one, or of other groups than one; with a hint or none."""
        hits = []
        likeness = {space: self._side(views, space, of_queries=True) @ self._sides[space].T for space in Space}
        for number in range(len(views)):
            images, tints = [], {}
            for place, image in enumerate(self._catalog):
                if image.product_id == without or (without_group and image.group == without_group):
                    continue
                cosine = float(likeness[Space.EMBEDDING][number, place])
                images.append(ImageHit(image.product_id, str(place), "", image.group, cosine))
                tints[image.product_id, str(place)] = float(likeness[Space.COLOUR][number, place])
            hits.append(ViewHits(images, tints if self._with_colour else None))
        return rank(hits, category_hint=hint)

    def _side(self, pictures: Sequence[Described], space: Space, *, of_queries: bool) -> Floats:
        centring = self._fit.centring
        if space is Space.COLOUR:
            vectors = np.stack([picture.vectors.colour for picture in pictures])
        else:
            vectors = np.stack([picture.vectors.embedding if centring else picture.raw for picture in pictures])
        if centring is None:
            return vectors
        vectors = vectors - (centring.queries if of_queries else centring.references).of(space)
        side: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return side
