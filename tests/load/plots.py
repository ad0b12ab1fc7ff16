"""Pictures of a run: lines or points over its time, one panel below the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]  # seconds from the start, value
_WIDTH, _HEIGHT, _PAD, _TOP = 1200, 220, 60, 44
_COLOURS = ((70, 120, 190), (225, 120, 100), (90, 160, 90), (150, 110, 180), (160, 140, 60))
_GREY, _INK = (215, 215, 220), (40, 40, 50)


@dataclass(frozen=True)
class Panel:
    """Values by name, with what they are of."""

    title: str  # with the unit
    series: Mapping[str, Points]
    joined: bool = True  # by lines; else points


def draw(panels: Sequence[Panel], seconds: float, path: Path) -> None:
    """Write the panels, each from 0 to its highest value, over so many seconds, as PNG."""
    sheet = Image.new("RGB", (_WIDTH + 2 * _PAD, len(panels) * (_HEIGHT + _TOP) + _PAD), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, panel in enumerate(panels):
        top = number * (_HEIGHT + _TOP) + _TOP
        highest = max((value for points in panel.series.values() for _, value in points), default=1.0) or 1.0
        for share in (0, 0.25, 0.5, 0.75, 1):
            y = top + _HEIGHT * (1 - share)
            pen.line((_PAD, y, _PAD + _WIDTH, y), fill=_GREY)
            pen.text((_PAD - 6, y), f"{highest * share:.4g}", fill=_INK, font=font, anchor="rm")
        pen.text((_PAD, top - 10), panel.title, fill=_INK, font=font, anchor="lb")
        across = _PAD + 330.0
        for (name, points), colour in zip(panel.series.items(), _COLOURS * 2, strict=False):
            pen.text((across, top - 10), name, fill=colour, font=font, anchor="lb")
            across += 24 + font.getlength(name)
            places = [
                (_PAD + _WIDTH * at / seconds, top + _HEIGHT * (1 - value / highest)) for at, value in sorted(points)
            ]
            if panel.joined:
                pen.line(places, fill=colour, width=2)
                continue
            for x, y in places:
                pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
    bottom = len(panels) * (_HEIGHT + _TOP)
    for part in range(7):
        x = _PAD + _WIDTH * part / 6
        pen.text((x, bottom + 8), f"{seconds * part / 360:.3g} min", fill=_INK, font=font, anchor="mt")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
