"""Makes one list of what several models found in one picture.

Two detections are one thing if their labels are of one kind (`taxonomy`) and their boxes overlap enough, unless they
have the same label of the same model: that model's own suppression has decided that they are two. The one with the
higher score stays, with its label, box and model; of equal ones that of the model asked first.

Scores of different models are on different scales, so "higher" between models is a convention, not a judgement. It
decides which of two boxes around the same thing is returned, never whether the thing is: each model's own threshold
has done that. Where a caller wants scores below it, that holds on: of kinds that a model asked earlier knows, too, a
later model adds nothing of which it is not sure by its own threshold. Such boxes would only mix into the order of the
earlier model's, which is right more often than they are.
"""

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoppable.detector.boxes import Boxes, Indices, overlaps
from shoppable.detector.detections import Candidates, Detection, DetectionOptions
from shoppable.detector.suppression import keep_best
from shoppable.detector.taxonomy import Sort

# All that was found, best score first, to the same and what is derived from it, in any order.
Derive = Callable[[Sequence[Detection]], Sequence[Detection]]


@dataclass(frozen=True, slots=True)
class Findings:
    """What one model found in a picture: suppressed, with boxes as shares of the picture."""

    model: str
    sorts: Sequence[Sort]  # of the model's labels, in the order of its classes
    found: Candidates
    sure_from: float = 0.0  # the model's own threshold, 0..1, whatever the caller's


def fuse(
    findings: Sequence[Findings], options: DetectionOptions, *, iou: float, derive: Derive | None = None
) -> tuple[Detection, ...]:
    """Fuse the models' findings and return what the caller wants of them, best score first.

    Args:
        findings: One for each model that was asked, in the order of asking.
        options: What the caller wants.
        iou: Highest intersection over union, 0..1, at which two things of one kind are two.
        derive: Adds to all that was found, for sale or not, what follows from it.
    """
    findings = _without_guesses(findings)
    every = [(one.model, one.sorts[index]) for one in findings for index in one.found.classes]
    boxes = np.concatenate([one.found.boxes for one in findings])
    scores = np.concatenate([one.found.scores for one in findings])
    kinds = _numbered([sort.kind for _, sort in every])
    labels = _numbered([(model, sort.label) for model, sort in every])
    rivals = (kinds[:, None] == kinds[None, :]) & (labels[:, None] != labels[None, :]) & (overlaps(boxes, boxes) > iou)
    found: Sequence[Detection] = [_detection(every[at], boxes[at], scores[at]) for at in keep_best(scores, rivals)]
    if derive is not None:
        found = sorted(derive(found), key=lambda detection: -detection.score)
    chosen = (one for one in found if options.wants(one.category, for_sale=one.for_sale))
    return tuple(itertools.islice(chosen, options.max_detections))


def _without_guesses(findings: Sequence[Findings]) -> list[Findings]:
    """Leave out what a model is not sure of, where an earlier one knows the kind of thing."""
    known: set[str] = set()
    kept = []
    for one in findings:
        if known and one.found.scores.min(initial=1) < one.sure_from:
            theirs = np.array([sort.kind in known for sort in one.sorts], np.bool_)
            sure = (one.found.scores >= one.sure_from) | ~theirs[one.found.classes]
            one = dataclasses.replace(one, found=one.found.take(sure))
        known.update(sort.kind for sort in one.sorts)
        kept.append(one)
    return kept


def _numbered(names: Sequence[Hashable]) -> Indices:
    """Return a number for each name, the same for equal ones."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.intp)


def _detection(found: tuple[str, Sort], box: Boxes, score: np.floating[Any]) -> Detection:
    model, sort = found
    left, top, right, bottom = box.tolist()
    return Detection(
        sort.label, sort.category, sort.for_sale, (left, top, right, bottom), float(score), model, sort.kind
    )
