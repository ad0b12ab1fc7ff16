"""A detection model on Triton: checked against what the operator declared, and watched by its inferences."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping

import numpy as np
import structlog
from tritonclient.utils import InferenceServerException

from shoppable.detector.detections import Candidates
from shoppable.detector.layouts import LayoutError, layout_of
from shoppable.detector.manifest import ModelSpec
from shoppable.detector.ports import LoadedModel, ModelState
from shoppable.detector.tensors import Array, Wire, agree, to_tensor
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import DeadlineExceededError, NotFoundError, UnavailableError
from shoppable.runtime.inference import AnyModel, UnknownModelError
from shoppable.runtime.triton_connection import TritonClient

_log = structlog.get_logger(__name__)

_REASON = "INFERENCE_UNAVAILABLE"
# How gRPC says that a connection broke under a call. Asking again opens a new one; a server that refuses connections,
# is overloaded or has lost a model's process gives other texts, and asking again would only add to its load.
_BROKEN_CONNECTION = ("socket closed", "connection reset", "broken pipe", "goaway")


class TritonModel:
    """A `ports.DetectionModel` on Triton."""

    def __init__(
        self, client: TritonClient, spec: ModelSpec, *, timeout_s: float, proof_lasts_s: float, version: str = ""
    ) -> None:
        """Take a channel to Triton and what the operator declared; nothing is asked yet.

        Args:
            client: The channel, shared by all models.
            spec: What the operator declared.
            timeout_s: For one answer.
            proof_lasts_s: How long an inference that went well spares `check` one of its own.
            version: To ask always; empty for the newest that is loaded.
        """
        self.spec = spec
        self._client = client
        self._version = version
        self._pinned: dict[str, TritonModel] = {}  # those that Triton has had, so they are few
        self._model = AnyModel(client, spec.name, timeout_s=timeout_s, version=version)
        self._timeout_s = timeout_s
        self._proof_lasts_s = proof_lasts_s
        self._layout = layout_of(spec)
        self._loaded: LoadedModel | None = None
        self._wire: Wire | None = None  # how to talk to what is loaded
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
            input_width=self._loaded.input_width if self._loaded else self.spec.input.width or 0,
            input_height=self._loaded.input_height if self._loaded else self.spec.input.height or 0,
        )

    async def load(self) -> LoadedModel:
        """See `ports.DetectionModel.load`."""
        return self._loaded if self._loaded and self._loaded_holds else await self._ask()

    async def at(self, version: str) -> "TritonModel":
        """See `ports.DetectionModel.at`."""
        await self.load()  # if no version can be asked, that is another error than that this one is missing
        pinned = self._pinned.get(version) or TritonModel(
            self._client,
            self.spec,
            timeout_s=self._timeout_s,
            proof_lasts_s=self._proof_lasts_s,
            version=version,
        )
        await pinned.load()
        self._pinned[version] = pinned
        return pinned

    async def infer(self, tensor: Array) -> Candidates:
        """See `ports.DetectionModel.infer`."""
        if self._wire is None:
            await self._ask()
        wire = self._wire
        assert wire is not None  # noqa: S101 -- asked above
        with self._watched():
            outputs = wire.unpack(await self._answer(wire.pack(tensor), wire))
            candidates = self._layout.read(outputs, width=wire.width, height=wire.height)
        self._note_version(self._model.answered_version)
        self._failure, self._proved_at = "", time.monotonic()
        return candidates

    async def check(self) -> None:
        """See `ports.DetectionModel.check`."""
        try:
            # Always asked anew: Triton may have been restarted with another version.
            loaded = await self._ask()
            if self._proved_at is None or time.monotonic() - self._proved_at > self._proof_lasts_s:
                black = np.zeros((1, loaded.input_height, loaded.input_width, 3), np.uint8)
                await self.infer(to_tensor(black, self.spec.input))
        except asyncio.CancelledError:
            self._fail("Triton did not answer the readiness check in time")
            raise

    def _note_version(self, answered: str) -> None:
        """Tell the version that answered; a new one may have other tensors, so it is asked for them next time."""
        if self._loaded is not None and answered and answered != self._loaded.version:
            _log.info("model changed its version", model=self.spec.name, before=self._loaded.version, now=answered)
            self._loaded = dataclasses.replace(self._loaded, version=answered)
            self._loaded_holds = False

    async def _ask(self) -> LoadedModel:
        with self._watched():
            try:
                found = await self._model.describe()
            except UnknownModelError as error:
                if self._version:
                    raise self._no_version() from error
                raise
            self._wire = agree(self.spec, self._layout, found)
            self._loaded = LoadedModel(found.version, input_width=self._wire.width, input_height=self._wire.height)
            self._loaded_holds = True
        return self._loaded

    async def _answer(self, inputs: Mapping[str, Array], wire: Wire) -> Mapping[str, Array]:
        try:
            return await self._model.run(inputs, list(wire.outputs), pictures=1)
        except UnavailableError as error:
            if not _connection_broke(error):
                raise
            _log.info("connection to triton broke, trying once more", model=self.spec.name)
            return await self._model.run(inputs, list(wire.outputs), pictures=1)

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
            raise self._fail(str(error)) from error
        except LayoutError as error:
            raise self._fail(f"it is not what its manifest declares: {error}", cause="MODEL_MISMATCH") from error
        except UnavailableError as error:
            # The runtime's text names the model already; its other reason is a mismatch of tensor names.
            said = error.message if error.reason != _REASON else "Triton cannot be reached or cannot run it"
            raise self._fail(said, cause="" if error.reason == _REASON else error.reason) from error

    def _no_version(self) -> NotFoundError:
        return NotFoundError(
            "detection model version",
            f"{self.spec.name}/versions/{self._version}",
            f"Triton has not loaded version {self._version} of the model {self.spec.name}",
            reason="UNKNOWN_MODEL_VERSION",
        )

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
