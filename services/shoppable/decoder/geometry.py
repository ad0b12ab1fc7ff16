"""How a stored picture lies, and how large it leaves."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: first transposed, then flipped."""

    transposed: bool = False
    flipped_vertically: bool = False
    flipped_horizontally: bool = False

    @property
    def rotation_degrees(self) -> int:
        """Return the turn in it, clockwise: 0, 90, 180 or 270. A mirrored picture counts by what is left to turn."""
        if self.transposed:
            return 270 if self.flipped_vertically else 90
        return 180 if self.flipped_vertically and self.flipped_horizontally else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the upright width and height of a stored picture, or the other way round."""
        return (height, width) if self.transposed else (width, height)

    def turn(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the upright picture, as a view."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        return pixels[
            :: -1 if self.flipped_vertically else 1,
            :: -1 if self.flipped_horizontally else 1,
        ]


UPRIGHT = Orientation()


def orientation_of(matrix: Sequence[int]) -> Orientation:
    """Read a display matrix: x' = a x + c y, y' = b x + d y, stored as a, b, u, c, d, v, x, y, w.

    Turns by anything but a multiple of 90 degrees go to the nearest one.
    """
    if len(matrix) < 5:
        return UPRIGHT
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, flipped_vertically=b < 0, flipped_horizontally=c < 0)
    return Orientation(flipped_vertically=d < 0, flipped_horizontally=a < 0)


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size of a picture of `aspect` (width to height of one pixel) with square pixels.

    One side is made smaller, never the other one larger: no pixel is invented, and a crafted aspect costs no memory.
    """
    if not aspect or aspect <= 0 or aspect == 1:
        return width, height
    if aspect > 1:
        return width, max(1, round(height / aspect))
    return max(1, round(width * aspect)), height


@functools.lru_cache(maxsize=64)  # exact fractions take as long as a hundredth of a frame
def fit(width: int, height: int, longest_side: int | None) -> tuple[int, int]:
    """Return the size of a picture whose longest side is at most `longest_side`; it never grows."""
    longest = max(width, height)
    if longest_side is None or longest <= longest_side:
        return width, height
    scale = Fraction(longest_side, longest)
    return max(1, round(width * scale)), max(1, round(height * scale))
