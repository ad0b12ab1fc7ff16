"""One model on Triton, or on anything that speaks its protocol: a batch of arrays in, arrays out.

Needs the extra of a service that infers (tritonclient). Messages of tritonclient's exceptions stay in the logs.
"""

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy.typing as npt
import structlog
from tritonclient.utils import InferenceServerException

from shoppable.runtime import metrics
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import DeadlineExceededError, ServiceError, UnavailableError
from shoppable.runtime.spans import asking
from shoppable.runtime.triton_connection import TritonClient

_log = structlog.get_logger(__name__)


_ABSENT = "Triton does not have it"
_MOST_CHARACTERS = 300  # of what Triton says of a model that did not load
_FOLDERS = re.compile(r"/(?:[^/\s'\":,;]+/)+")


class UnknownModelError(Exception):
    """Triton does not have the model, or not that version; the text says why, as far as Triton tells."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as Triton tells it: with its batch dimension, if it has one; -1 is a free dimension."""

    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelDescription:
    """All tensors of a loaded model, by name."""

    version: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


@dataclass(frozen=True)
class ModelInfo:
    """What Triton says of a loaded model: input shape without the batch dimension; -1 is a free dimension."""

    name: str
    version: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class AnyModel:
    """A model of whatever inputs and outputs."""

    def __init__(self, client: TritonClient, name: str, *, timeout_s: float, version: str = "") -> None:
        """Name a model; nothing is asked yet.

        Args:
            client: The way to Triton.
            name: Of the model.
            timeout_s: For one answer.
            version: Of the model; empty for the newest that is loaded.
        """
        self.name = name
        self.answered_version = ""  # the one that gave the last answer
        self._version = version
        self._client = client
        self._timeout_s = timeout_s

    async def describe(self) -> ModelDescription:
        """Ask Triton for the model's tensors and its newest version.

        Raises:
            UnknownModelError: Triton does not have it.
            UnavailableError: Triton cannot be reached.
            DeadlineExceededError: No answer within the call's time.
        """
        try:
            with self._translated():
                answer = await self._client.get_model_metadata(
                    self.name, self._version, client_timeout=remaining_s(self._timeout_s)
                )
        except UnknownModelError as error:
            raise UnknownModelError(await self._absence()) from error
        version = self._version or max(
            answer.versions, key=lambda text: int(text) if text.isdigit() else -1, default=""
        )
        inputs, outputs = (
            {tensor.name: TensorInfo(tensor.datatype, tuple(tensor.shape)) for tensor in tensors}
            for tensors in (answer.inputs, answer.outputs)
        )
        return ModelDescription(version, inputs, outputs)

    async def run(
        self, inputs: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str], *, pictures: int
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the model on arrays of whatever the model takes and return the outputs asked for.

        Args:
            inputs: All of the model's inputs, by name.
            outputs: Names of the wanted outputs.
            pictures: How many of the inputs' rows the caller needs answered, for the metrics.

        Raises:
            UnknownModelError: Triton does not have it.
            UnavailableError: Triton cannot be reached, or the model cannot run.
            DeadlineExceededError: No answer within the call's time.
        """
        started = time.perf_counter()
        outcome = "failed"
        try:
            with asking("triton", self.name), self._translated():
                answer = await self._client.infer_arrays(
                    self.name, inputs, outputs, version=self._version, timeout_s=self._timeout_s
                )
            arrays = {name: answer.as_numpy(name) for name in outputs}
            missing = sorted(name for name, array in arrays.items() if array is None)
            if missing:
                raise UnavailableError(
                    f"the model {self.name} on Triton answered without {missing}", reason="MODEL_MISMATCH"
                )
            self.answered_version = answer.get_response().model_version
            outcome = "ok"
            return arrays
        finally:
            metrics.INFERENCES.labels(self.name, outcome).inc(pictures)
            metrics.INFERENCE_SECONDS.labels(self.name).observe(time.perf_counter() - started)

    async def _absence(self) -> str:
        """Say, for an operator, why Triton does not have the model; file names are told without their folders."""
        try:
            reason = await self._client.not_loaded_because(self.name, timeout_s=remaining_s(self._timeout_s))
        except grpc.RpcError:
            reason = None
        if reason is None:
            return _ABSENT
        if reason == "unloaded":
            return "it is unloaded on Triton"
        text = _FOLDERS.sub("", " ".join(reason.split()))
        return f"Triton could not load it: {text[:_MOST_CHARACTERS]}"

    @contextlib.contextmanager
    def _translated(self) -> Any:
        """Turn tritonclient's exceptions into ours."""
        try:
            yield
        except InferenceServerException as error:
            raise self._translate(error) from error
        except grpc.RpcError as error:
            raise self._unavailable(str(error)) from error

    def _translate(self, error: InferenceServerException) -> Exception:
        status, text = error.status() or "", error.message() or ""
        if status == "StatusCode.DEADLINE_EXCEEDED":
            return DeadlineExceededError(f"the model {self.name} did not answer within the call's time")
        # A model that failed to load is "unknown" to some versions, with UNAVAILABLE.
        if status == "StatusCode.NOT_FOUND" or "unknown model" in text:
            return UnknownModelError(_ABSENT)
        return self._unavailable(f"{status} {text}")

    def _unavailable(self, text: str) -> ServiceError:
        # Triton answers INTERNAL while a model's process is dead: to the caller that is the same as being away.
        _log.warning("inference failed", model=self.name, error=text)
        return UnavailableError(
            f"the model {self.name} cannot run now: Triton does not answer it; try again after the retry delay",
            reason="INFERENCE_UNAVAILABLE",
            metadata={"model": self.name},
        )


class Model(AnyModel):
    """A model with one input and one output, both with a batch dimension first."""

    def __init__(self, client: TritonClient, name: str, *, input_name: str, output_name: str, timeout_s: float) -> None:
        super().__init__(client, name, timeout_s=timeout_s)
        self._input_name = input_name
        self._output_name = output_name

    async def info(self) -> ModelInfo:
        """As `describe`, for the two tensors.

        Raises:
            UnknownModelError: Triton does not have it.
            UnavailableError: Triton cannot be reached, or the model has no such tensors.
            DeadlineExceededError: No answer within the call's time.
        """
        found = await self.describe()
        tensors = {**found.inputs, **found.outputs}
        missing = {self._input_name, self._output_name} - tensors.keys()
        if missing:
            raise UnavailableError(
                f"the model {self.name} on Triton lacks the tensors {sorted(missing)}; fix its configuration",
                reason="MODEL_MISMATCH",
            )
        shape, output_shape = tensors[self._input_name].shape[1:], tensors[self._output_name].shape[1:]
        return ModelInfo(self.name, found.version, shape, output_shape)

    async def infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run the model on a batch [N, ...] and return its output [N, ...].

        Raises:
            UnknownModelError: Triton does not have it.
            UnavailableError: Triton cannot be reached, or the model cannot run.
            DeadlineExceededError: No answer within the call's time.
        """
        answer = await self.run({self._input_name: batch}, [self._output_name], pictures=len(batch))
        output = answer[self._output_name]
        if len(output) != len(batch):
            raise UnavailableError(
                f"the model {self.name} on Triton answered without a row for each input", reason="MODEL_MISMATCH"
            )
        return output
