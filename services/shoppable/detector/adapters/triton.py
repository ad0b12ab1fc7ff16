"""A detection model on Triton: checked against what the operator declared, and watched by its inferences."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import numpy as np
import structlog
from tritonclient.utils import InferenceServerException

from shoppable.detector.boxes import Floats
from shoppable.detector.detections import Candidates
from shoppable.detector.layouts import LAYOUTS, SHAPE_CHECKS, LayoutError
from shoppable.detector.letterbox import Pixels
from shoppable.detector.manifest import ModelSpec
from shoppable.detector.ports import LoadedModel, ModelState
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import DeadlineExceededError, UnavailableError
from shoppable.runtime.inference import Model, ModelInfo, UnknownModelError
from shoppable.runtime.triton_connection import TritonClient

_log = structlog.get_logger(__name__)

_REASON = "INFERENCE_UNAVAILABLE"
_RGB = 3
# How gRPC says that a connection broke under a call. Asking again opens a new one; a server that refuses connections,
# is overloaded or has lost a model's process gives other texts, and asking again would only add to its load.
_BROKEN_CONNECTION = ("socket closed", "connection reset", "broken pipe", "goaway")


class TritonModel:
    """A `ports.DetectionModel` on Triton."""

    def __init__(self, client: TritonClient, spec: ModelSpec, *, timeout_s: float, proof_lasts_s: float) -> None:
        """Take a channel to Triton and what the operator declared; nothing is asked yet.

        Args:
            client: The channel, shared by all models.
            spec: What the operator declared.
            timeout_s: For one answer.
            proof_lasts_s: How long an inference that went well spares `check` one of its own.
        """
        self.spec = spec
        self._model = Model(
            client, spec.name, input_name=spec.input_name, output_name=spec.output_name, timeout_s=timeout_s
        )
        self._timeout_s = timeout_s
        self._proof_lasts_s = proof_lasts_s
        self._read = LAYOUTS[spec.layout]
        self._loaded: LoadedModel | None = None
        self._loaded_holds = False  # after a failure it may be another Triton that answers next
        self._proved_at: float | None = None  # time.monotonic() of the last answer, None after a failure
        self._failure = "not asked yet"

    @property
    def state(self) -> ModelState:
        """What the last inference has shown."""
        ready = not self._failure and self._loaded is not None
        return ModelState(
            not_ready_reason="" if ready else self._failure or "not asked yet",
            version=self._loaded.version if ready and self._loaded else "",
            input_width=self._loaded.input_width if self._loaded else self.spec.input_width or 0,
            input_height=self._loaded.input_height if self._loaded else self.spec.input_height or 0,
        )

    async def load(self) -> LoadedModel:
        """See `ports.DetectionModel.load`."""
        return self._loaded if self._loaded and self._loaded_holds else await self._ask()

    async def infer(self, image: Pixels) -> Candidates:
        """See `ports.DetectionModel.infer`."""
        with self._watched():
            output = await self._answer(image)
            candidates = self._read(output[0])
            highest = int(candidates.classes.max(initial=0))
            if highest >= len(self.spec.labels) or candidates.classes.min(initial=0) < 0:
                raise LayoutError(f"a class number is {highest}, and {len(self.spec.labels)} labels are declared")
        self._failure, self._proved_at = "", time.monotonic()
        return candidates

    async def check(self) -> None:
        """See `ports.DetectionModel.check`."""
        try:
            # Always asked anew: Triton may have been restarted with another version.
            loaded = await self._ask()
            if self._proved_at is None or time.monotonic() - self._proved_at > self._proof_lasts_s:
                await self.infer(np.zeros((1, loaded.input_height, loaded.input_width, _RGB), np.uint8))
        except asyncio.CancelledError:
            self._fail("Triton did not answer the readiness check in time")
            raise

    async def _ask(self) -> LoadedModel:
        with self._watched():
            info = await self._model.info()
            self._loaded = self._checked(info)
            self._loaded_holds = True
        return self._loaded

    async def _answer(self, image: Pixels) -> Floats:
        try:
            return await self._model.infer(image)
        except UnavailableError as error:
            if not _connection_broke(error):
                raise
            _log.info("connection to triton broke, trying once more", model=self.spec.name)
            return await self._model.infer(image)

    def _checked(self, info: ModelInfo) -> LoadedModel:
        """Compare what Triton says with what the operator declared.

        Raises:
            LayoutError: They differ.
        """
        SHAPE_CHECKS[self.spec.layout](info.output_shape)
        if len(info.input_shape) != 3 or info.input_shape[2] not in (_RGB, -1):
            raise LayoutError(f"the input must be [height, width, {_RGB}], and is {list(info.input_shape)}")
        sides = []
        for name, declared, found in (
            ("input_height", self.spec.input_height, info.input_shape[0]),
            ("input_width", self.spec.input_width, info.input_shape[1]),
        ):
            if declared is None and found < 0:
                raise LayoutError(f"{name} is free on Triton and must be declared")
            if declared is not None and found not in (declared, -1):
                raise LayoutError(f"{name} is declared as {declared}, and is {found} on Triton")
            sides.append(found if declared is None else declared)
        return LoadedModel(info.version, input_width=sides[1], input_height=sides[0])

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn every failure into UNAVAILABLE with the contract's reason, and remember it; pass on the caller's own.

        Raises:
            UnavailableError: The model did not answer, or not as declared.
            DeadlineExceededError: The caller's time is over.
        """
        ours = remaining_s(self._timeout_s) >= self._timeout_s
        try:
            yield
        except DeadlineExceededError as error:
            if not ours:
                raise
            raise self._fail(f"Triton did not answer within {self._timeout_s:g} s") from error
        except UnknownModelError as error:
            raise self._fail("Triton does not have it") from error
        except LayoutError as error:
            raise self._fail(f"it is not what the models file declares: {error}", cause="MODEL_MISMATCH") from error
        except UnavailableError as error:
            # The runtime's text names the model already; its other reason is a mismatch of tensor names.
            said = error.message if error.reason != _REASON else "Triton cannot be reached or cannot run it"
            raise self._fail(said, cause="" if error.reason == _REASON else error.reason) from error

    def _fail(self, why: str, *, cause: str = "") -> UnavailableError:
        if why != self._failure:
            _log.warning("model is not ready", model=self.spec.name, why=why)
        self._failure, self._proved_at, self._loaded_holds = why, None, False
        metadata = {"model": self.spec.name} | ({"cause": cause} if cause else {})
        return UnavailableError(
            f"the model {self.spec.name} cannot run now: {why}; try again after the retry delay",
            reason=_REASON,
            metadata=metadata,
        )


def _connection_broke(error: UnavailableError) -> bool:
    cause = error.__cause__
    if not isinstance(cause, InferenceServerException) or cause.status() != "StatusCode.UNAVAILABLE":
        return False
    text = (cause.message() or "").lower()
    return any(sign in text for sign in _BROKEN_CONNECTION)
