"""Keeps one box of several that were drawn around one thing."""

import numpy as np

from shoppable.detector.boxes import Boxes, Floats, Indices, Mask, overlaps


def keep_best(scores: Floats, rivals: Mask) -> Indices:
    """From the highest score down, keep what is no rival of something kept.

    Args:
        scores: [N]; of equal ones the earlier goes first.
        rivals: [N, N], symmetric: whether two stand for one thing. The diagonal does not count.

    Returns:
        Indices of what is kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    rivals = rivals[np.ix_(order, order)]
    alive = np.ones(len(order), np.bool_)
    for best in range(len(order)):
        if alive[best]:
            alive[best + 1 :] &= ~rivals[best, best + 1 :]
    return np.asarray(order[alive])


def suppress(boxes: Boxes, scores: Floats, classes: Indices, *, iou: float) -> Indices:
    """Non-maximum suppression within each class.

    Args:
        boxes: [N, 4], in any unit.
        scores: [N].
        classes: [N]; boxes of different classes do not touch each other.
        iou: Highest intersection over union, 0..1, at which both of two boxes stay.

    Returns:
        Indices of the kept boxes, best score first.
    """
    # One matrix for all classes: for the at most few hundred candidates of a picture that is faster than a loop.
    return keep_best(scores, (overlaps(boxes, boxes) > iou) & (classes[:, None] == classes[None, :]))
