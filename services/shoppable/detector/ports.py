"""What the pipeline needs from outside."""

from dataclasses import dataclass
from typing import Protocol

from shoppable.detector.detections import Candidates
from shoppable.detector.manifest import ModelSpec
from shoppable.detector.tensors import Array


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What is known of a model only when it can be asked."""

    version: str
    input_width: int  # pixels
    input_height: int  # pixels


@dataclass(frozen=True, slots=True)
class ModelState:
    """How it stood with a model when it was last asked."""

    not_ready_reason: str  # empty if it is ready
    version: str  # empty if it is not
    input_width: int  # pixels; 0 while nobody knows
    input_height: int

    @property
    def ready(self) -> bool:
        """Whether it answered."""
        return not self.not_ready_reason


class DetectionModel(Protocol):
    """One detection model, wherever it runs."""

    @property
    def spec(self) -> ModelSpec:
        """What the operator declared."""

    @property
    def state(self) -> ModelState:
        """What the last inference, whoever asked for it, has shown."""

    async def load(self) -> LoadedModel:
        """Return its version and input size; at no cost after the first time.

        Raises:
            UnavailableError: It cannot be asked, or is not what the operator declared.
            DeadlineExceededError: The caller's time is over.
        """

    async def at(self, version: str) -> "DetectionModel":
        """Return one version of it, whichever is the newest.

        Raises:
            NotFoundError: Triton has not loaded that version.
            UnavailableError: The model cannot be asked, or this version is not what the operator declared.
            DeadlineExceededError: The caller's time is over.
        """

    async def infer(self, tensor: Array) -> Candidates:
        """Run it on one picture [1, ...], letterboxed and as `tensors.to_tensor` makes it.

        Boxes come back in pixels of the input, classes as indices of the declared labels.

        Raises:
            UnavailableError: It cannot run now, or its output is not what the operator declared.
            DeadlineExceededError: The caller's time is over.
        """

    async def check(self) -> None:
        """Return if it can infer, because it just has or after an inference on a black picture.

        Raises:
            UnavailableError: It cannot.
        """
