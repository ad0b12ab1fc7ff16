"""A classifier of sensitive content, on Triton.

The orchestrator asks it directly: what must never be offered is the orchestrator's to decide, and must hold whatever
detector or matcher an operator puts behind it.
"""

import asyncio
import math
import time

import numpy as np
from PIL import Image

from shoppable.orchestrator.domain import Frame, Pixels
from shoppable.orchestrator.frames import frame_pixels
from shoppable.runtime.errors import UnavailableError
from shoppable.runtime.inference import Model, UnknownModelError

_FREE_SIDE = 224  # pixels, for a model that takes any size
_MAX_SIDE = 1024
_REST_S = 1.0  # after a failure: each frame of a model that hangs would else cost its whole timeout


class TritonClassifier:
    """A ContentClassifier."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._size: tuple[int, int] | None = None  # width, height
        self._resting_until = -math.inf

    async def score(self, frame: Frame) -> float:
        """Return the model's score of a frame, 0..1.

        Raises:
            ServiceError: The model is away, is not there, or is no such classifier.
        """
        if time.monotonic() < self._resting_until:
            raise self._unable("has just failed")
        try:
            if self._size is None:
                self._size = await self._input_size()
            image = await asyncio.to_thread(_fitted, frame, self._size)
            score = float((await self._model.infer(image[None])).ravel()[0])
        except UnknownModelError as error:
            self._size, self._resting_until = None, time.monotonic() + _REST_S
            raise self._unable("is not on Triton") from error
        except Exception:
            self._size, self._resting_until = None, time.monotonic() + _REST_S
            raise
        if not 0 <= score <= 1:  # also NaN
            raise self._unable(f"gave a score of {score:g}")
        return score

    async def _input_size(self) -> tuple[int, int]:
        shape = (await self._model.info()).input_shape
        if len(shape) != 3 or shape[2] != 3 or max(shape) > _MAX_SIDE:
            raise self._unable(f"takes {shape} and no picture [height, width, 3]")
        height, width = (side if side > 0 else _FREE_SIDE for side in shape[:2])
        return width, height

    def _unable(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"the classifier {self._model.name} {why}: nothing is offered where it cannot judge",
            reason="CLASSIFIER_UNAVAILABLE",
            metadata={"model": self._model.name},
        )


def _fitted(frame: Frame, size: tuple[int, int]) -> Pixels:
    picture = Image.fromarray(frame_pixels(frame)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8)
