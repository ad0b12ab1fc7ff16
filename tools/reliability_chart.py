"""Draws reliability diagrams: how often the first product was right, by how sure the matcher was."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from eval_matching import Measured

_SIDE, _PAD, _HEAD, _COLUMNS = 220, 28, 48, 4  # pixels, and diagrams a row
_INK, _GRID, _BAR, _GAP = (30, 30, 40), (215, 215, 222), (70, 120, 190), (225, 120, 100)


def draw(results: "Sequence[Measured]", path: Path) -> None:
    """Write one PNG with a diagram for each result: bars as wide as their share is dark, the diagonal is the truth."""
    rows = -(-len(results) // _COLUMNS)
    width, height = _SIDE + 2 * _PAD, _SIDE + _PAD + _HEAD
    sheet = Image.new("RGB", (width * _COLUMNS, height * rows), "white")
    pen = ImageDraw.Draw(sheet)
    for number, one in enumerate(results):
        left, top = number % _COLUMNS * width + _PAD, number // _COLUMNS * height + _HEAD
        bottom, right = top + _SIDE, left + _SIDE
        pen.text((left, top - _HEAD + 8), f"{one.name}, {one.views} view(s)", fill=_INK)
        error = f"error {one.calibration_error.value:.3f}, by chance {one.calibration_error.by_chance:.3f}"
        pen.text((left, top - _HEAD + 24), f"{one.way}: {error}", fill=_INK)
        for tenth in range(11):
            at = tenth * _SIDE // 10
            pen.line((left, bottom - at, right, bottom - at), fill=_GRID)
        for held in one.reliability:
            start = left + int(held.confidence * 10 * 0.9999) * _SIDE // 10
            wide = max(2, round(_SIDE / 10 * min(1, held.share * 4)))
            pen.rectangle((start, bottom - round(held.right * _SIDE), start + wide, bottom), fill=_BAR)
            at = left + round(held.confidence * _SIDE)
            pen.line((at, bottom - round(held.confidence * _SIDE), at, bottom - round(held.right * _SIDE)), fill=_GAP)
        pen.line((left, bottom, right, top), fill=_INK)
        pen.rectangle((left, top, right, bottom), outline=_INK)
    sheet.save(path)
