"""A stranger's picture made ready: decoded within limits, described by its colours, stretched for the embedder."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image

from shoppable.matcher import colour
from shoppable.matcher.ports import Floats, Pixels
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.images import read_image
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2

T = TypeVar("T")
# Of the embedder's side: a larger picture may be decoded smaller, as long as there is more to average than to copy.
_ENOUGH = 2


def prepare(picture: Image.Image, side: int) -> tuple[Pixels, Floats]:
    """Return an RGB picture stretched to a square for the embedder, and its colours. Blocking."""
    square = picture.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(square), colour.describe(square)


class PictureReader:
    """Decodes pictures in a few threads: as many are in memory at full size, and no more."""

    def __init__(self, *, threads: int, max_pixels: int, side: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        self._max_pixels = max_pixels
        self._side = side

    def close(self) -> None:
        """Finish what is in work and stop the threads."""
        self._executor.shutdown(cancel_futures=True)

    async def read(self, image: common_pb2.Image, field: str) -> tuple[Pixels, Floats] | Violation:
        """Return the picture stretched to the embedder's square, and its colours; or what is wrong with `field`."""
        return await self._in_thread(lambda: self._read(image, field))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _read(self, image: common_pb2.Image, field: str) -> tuple[Pixels, Floats] | Violation:
        violations = Violations()
        pixels = read_image(image, field, violations, max_pixels=self._max_pixels, enough=_ENOUGH * self._side)
        if pixels is None:
            try:
                violations.raise_if_any()
            except InvalidRequestError as error:
                return error.violations[0]
            return Violation(field, "must be a readable picture")
        return prepare(Image.fromarray(pixels), self._side)
