"""Where clothes are on a person, told from the person's box alone: for models that know people and no clothing.

Heights are shares of a standing person's stature, from the crown down. They follow the segment lengths of Drillis and
Contini (Body Segment Parameters, 1966; figure 4.1 of D. A. Winter, Biomechanics and Motor Control of Human Movement):
chin 0.13, shoulders 0.18, elbows 0.37, hips 0.47, wrists 0.51, knees 0.72, ankles 0.96. Shoulders are 0.26 wide; with
the arms hanging beside them a person is about as wide as 0.30.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture


class Region(enum.Enum):
    """A part of a person that clothes cover."""

    UPPER_BODY = "upper-body"
    LOWER_BODY = "lower-body"
    FEET = "feet"
    WHOLE_OUTFIT = "whole-outfit"
    WHOLE_PERSON = "whole-person"  # where it cannot be told which garment is where


@dataclass(frozen=True, slots=True)
class Span:
    """From where to where a region reaches on a standing person, and how much of it must be in the picture."""

    top: float
    bottom: float
    least_visible: float


# A top ends between hips and wrists, trousers begin at the waist, a little above the hips. Shoes reach higher in a
# picture than ankles: of those that the wearables model sees on people in COCO's photos, half begin above 0.88 and a
# quarter above 0.84. A shirt or trousers can be matched by half of them; feet cannot.
SPANS: Mapping[Region, Span] = MappingProxyType(
    {
        Region.UPPER_BODY: Span(0.13, 0.52, 0.4),
        Region.LOWER_BODY: Span(0.40, 0.96, 0.5),
        Region.FEET: Span(0.86, 1.0, 0.9),
        Region.WHOLE_OUTFIT: Span(0.13, 1.0, 0.2),
    }
)
_WIDTH = 0.30  # of a standing person, as a share of the stature
# A whole person that is wider than this, as a share of the own height, sits, lies or bends: there is no telling.
_WIDEST_STANDING = 0.65
# As near as this to an edge of the picture, as a share of it, a box counts as cut there.
_CUT = 0.02
_LEAST_SIDE = 16  # pixels; less shows no garment


def regions(person: Box, *, width: int, height: int) -> dict[Region, Box]:
    """Return where the clothes of a person are, as far as they are in the picture.

    Of a person whom an edge of the picture cuts above or below, the stature is told from the box's width: a portrait
    has no feet. Where that cannot be, since both ends are cut, or a side too, and of one who does not stand, the only
    region is the whole person.

    Args:
        person: The person's box.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
    """
    left, top, right, bottom = person
    across, down = (right - left) * width, (bottom - top) * height
    if min(across, down) < _LEAST_SIDE:
        return {}
    cut_above, cut_below = top < _CUT, bottom > 1 - _CUT
    cut_aside = left < _CUT or right > 1 - _CUT
    whole = not (cut_above or cut_below)
    if (cut_above and cut_below) or (cut_aside and not whole) or (whole and across > _WIDEST_STANDING * down):
        return {Region.WHOLE_PERSON: person}
    stature = down if whole else max(down, across / _WIDTH)
    hidden = stature - down if cut_above else 0.0  # pixels of the person above the box
    found = {}
    for region, span in SPANS.items():
        first = min(max(span.top * stature - hidden, 0.0), down)
        last = min(max(span.bottom * stature - hidden, 0.0), down)
        visible = (last - first) / ((span.bottom - span.top) * stature)
        if visible >= span.least_visible and last - first >= _LEAST_SIDE:
            found[region] = (left, top + first / height, right, top + last / height)
    return found
