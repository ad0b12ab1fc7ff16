"""The embedder on Triton: one picture a request, several requests in flight."""

import asyncio
from collections.abc import Sequence

import numpy as np
import structlog

from shoppable.matcher.catalogs import ModelIdentity
from shoppable.matcher.ports import Floats, Pixels
from shoppable.runtime.errors import UnavailableError
from shoppable.runtime.inference import Model, UnknownModelError

_log = structlog.get_logger(__name__)
SIDE = 260  # pixels; the model's input, checked when its identity is read


class TritonEmbedder:
    """Embeds pictures. Triton forms the batches: on a CPU its instances then share the work evenly."""

    def __init__(self, model: Model, *, in_flight: int) -> None:
        self._model = model
        self._slots = asyncio.Semaphore(in_flight)
        self._identity: ModelIdentity | None = None

    @property
    def side(self) -> int:
        """Side in pixels of the square that it takes."""
        return SIDE

    async def identity(self) -> ModelIdentity:
        """Tell which model runs: read once, and again at each readiness check."""
        return self._identity or await self._read_identity()

    async def embed(self, pictures: Sequence[Pixels]) -> list[Floats]:
        """Return the pictures' embeddings, of length 1."""
        tasks = [asyncio.create_task(self._embed_one(picture)) for picture in pictures]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # the rest, after one has failed or the caller has gone
                task.cancel()

    async def check(self) -> None:
        """Raise unless an inference succeeds: Triton calls a model ready whose process has died."""
        await self._read_identity()
        # Past the queue: a long import must not look like a dead model.
        await self._infer(np.zeros((SIDE, SIDE, 3), np.uint8))

    async def _embed_one(self, picture: Pixels) -> Floats:
        async with self._slots:
            return await self._infer(picture)

    async def _infer(self, picture: Pixels) -> Floats:
        try:
            output = await self._model.infer(picture[None])
        except UnknownModelError as error:
            raise _no_model(self._model.name) from error
        vector: Floats = np.asarray(output[0], np.float32)
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0:
            raise UnavailableError(
                f"the model {self._model.name} on Triton gave numbers that are no embedding", reason="MODEL_MISMATCH"
            )
        return vector / np.float32(length)

    async def _read_identity(self) -> ModelIdentity:
        try:
            info = await self._model.info()
        except UnknownModelError as error:
            raise _no_model(self._model.name) from error
        if info.input_shape != (SIDE, SIDE, 3) or len(info.output_shape) != 1 or info.output_shape[0] < 1:
            raise UnavailableError(
                f"the model {info.name} on Triton takes {info.input_shape} and gives {info.output_shape}; an embedder"
                f" takes ({SIDE}, {SIDE}, 3) and gives one vector",
                reason="MODEL_MISMATCH",
            )
        identity = ModelIdentity(info.name, info.version, info.output_shape[0])
        if self._identity not in (None, identity):
            _log.warning("the embedder changed", before=str(self._identity), now=str(identity))
        self._identity = identity
        return identity


def _no_model(name: str) -> UnavailableError:
    return UnavailableError(
        f"Triton has no model {name}: load it there, or set embedder_model",
        reason="INFERENCE_UNAVAILABLE",
        metadata={"model": name},
    )
