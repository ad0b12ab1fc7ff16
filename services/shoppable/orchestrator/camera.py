"""How far the picture as a whole moved between two frames: what a pan or an unsteady hand does to every box.

Phase correlation of small grey pictures (Kuglin and Hines 1975): the peak of the normalised cross spectrum is the
shift. It is believed only if the pictures, moved by it, differ much less than where they lie.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from shoppable.orchestrator.domain import Pixels

Shift = tuple[float, float]  # shares of the frame's width and height
STILL: Shift = (0.0, 0.0)

_WIDTH, _HEIGHT = 128, 72  # pixels: a step is 0.8 % of the frame
_FARTHEST = 0.35  # of the frame; beyond, too little is common to both
_BELIEVED = 0.7  # of the difference at rest; where nothing moved, none is smaller by so much
_WINDOW = np.outer(np.hanning(_HEIGHT), np.hanning(_WIDTH)).astype(np.float32)


class Camera:
    """Follows the camera of one video. Feed frames in order of time."""

    def __init__(self) -> None:
        self._latest: npt.NDArray[np.float32] | None = None

    def shift(self, pixels: Pixels) -> Shift:
        """Return by how much what stands still in the scene moved in the picture since the last frame."""
        before, now = self._latest, _small(pixels)
        self._latest = now
        return STILL if before is None else _shift(before, now)

    def forget(self) -> None:
        """Start anew, as at a cut."""
        self._latest = None


def _small(pixels: Pixels) -> npt.NDArray[np.float32]:
    picture = Image.fromarray(pixels).resize((_WIDTH, _HEIGHT), Image.Resampling.BOX).convert("L")
    return np.asarray(picture, np.float32)


def _shift(before: npt.NDArray[np.float32], now: npt.NDArray[np.float32]) -> Shift:
    spectra = [np.fft.rfft2((picture - picture.mean()) * _WINDOW) for picture in (before, now)]
    cross = spectra[1] * np.conj(spectra[0])
    correlation = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=now.shape)
    row, column = divmod(int(np.argmax(correlation)), _WIDTH)
    down = row - _HEIGHT if row > _HEIGHT // 2 else row
    right = column - _WIDTH if column > _WIDTH // 2 else column
    if abs(right) > _FARTHEST * _WIDTH or abs(down) > _FARTHEST * _HEIGHT:
        return STILL
    if _difference(before, now, right, down) > _BELIEVED * _difference(before, now, 0, 0):
        return STILL
    return right / _WIDTH, down / _HEIGHT


def _difference(before: npt.NDArray[np.float32], now: npt.NDArray[np.float32], right: int, down: int) -> float:
    """Return how much two pictures differ where they overlap if the first is moved."""
    rows, columns = _overlap(down, _HEIGHT), _overlap(right, _WIDTH)
    return float(np.abs(now[rows[1], columns[1]] - before[rows[0], columns[0]]).mean())


def _overlap(steps: int, length: int) -> tuple[slice, slice]:
    """Return which part of the first picture lies on which of the second."""
    return slice(max(-steps, 0), length - max(steps, 0)), slice(max(steps, 0), length - max(-steps, 0))
