"""Adds to what was found the apparel regions of the people among it."""

from collections.abc import Mapping, Sequence

from shoppable.detector.apparel import Box, Region, regions
from shoppable.detector.detections import Derivation, Detection

# The kind of label, in the taxonomy, of whom regions are derived from.
PERSON = "person"
# So much of a thing that a model saw must lie in a region of its category for the region to give way.
_INSIDE = 0.5


def with_apparel(
    found: Sequence[Detection], categories: Mapping[Region, str], *, width: int, height: int
) -> list[Detection]:
    """Return what was found, and behind it the regions of each person.

    A region's score is the person's. Where a model itself saw a thing of a region's category in it, shoes at the feet,
    that thing stands alone.

    Args:
        found: All that the models saw, not for sale or for sale.
        categories: Of the regions; others are not derived.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
    """
    derived = [
        Detection(
            label=region.value.replace("-", " "),
            category=categories[region],
            for_sale=True,
            box=box,
            score=person.score,
            model=person.model,
            kind=region.value,
            derivation=Derivation(region, person.label, person.box),
        )
        for person in found
        if person.kind == PERSON
        for region, box in regions(person.box, width=width, height=height).items()
        if region in categories
        and not any(one.category == categories[region] and _share_inside(one.box, box) >= _INSIDE for one in found)
    ]
    return [*found, *derived]


def _share_inside(thing: Box, region: Box) -> float:
    """Return how much of a thing, 0..1, lies in a region."""
    across = min(thing[2], region[2]) - max(thing[0], region[0])
    down = min(thing[3], region[3]) - max(thing[1], region[1])
    area = (thing[2] - thing[0]) * (thing[3] - thing[1])
    return max(across, 0.0) * max(down, 0.0) / area if area > 0 else 0.0
