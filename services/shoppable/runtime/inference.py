"""One model on Triton, or on anything that speaks its protocol: a batch of arrays in, arrays out.

Needs the extra of a service that infers (tritonclient). Messages of tritonclient's exceptions stay in the logs.
"""

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import grpc
import numpy.typing as npt
import structlog
from tritonclient.utils import InferenceServerException

from shoppable.runtime import metrics
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import DeadlineExceededError, ServiceError, UnavailableError
from shoppable.runtime.triton_connection import TritonClient

_log = structlog.get_logger(__name__)


class UnknownModelError(Exception):
    """Triton does not have the model."""


@dataclass(frozen=True)
class ModelInfo:
    """What Triton says of a loaded model: input shape without the batch dimension; -1 is a free dimension."""

    name: str
    version: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class Model:
    """A model with one input and one output, both with a batch dimension first."""

    def __init__(self, client: TritonClient, name: str, *, input_name: str, output_name: str, timeout_s: float) -> None:
        self.name = name
        self._client = client
        self._input_name = input_name
        self._output_name = output_name
        self._timeout_s = timeout_s

    async def info(self) -> ModelInfo:
        """Ask Triton for the model's shapes and its newest version.

        Raises:
            UnknownModelError: Triton does not have it.
            UnavailableError: Triton cannot be reached.
            DeadlineExceededError: No answer within the call's time.
        """
        with self._translated():
            answer = await self._client.get_model_metadata(self.name, client_timeout=remaining_s(self._timeout_s))
        shapes: dict[str, tuple[int, ...]] = {
            tensor.name: tuple(tensor.shape)[1:] for tensor in (*answer.inputs, *answer.outputs)
        }
        missing = {self._input_name, self._output_name} - shapes.keys()
        if missing:
            raise UnavailableError(
                f"the model {self.name} on Triton lacks the tensors {sorted(missing)}; fix its configuration",
                reason="MODEL_MISMATCH",
            )
        version = max(answer.versions, key=lambda text: int(text) if text.isdigit() else -1, default="")
        return ModelInfo(self.name, version, shapes[self._input_name], shapes[self._output_name])

    async def infer(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run the model on a batch [N, ...] and return its output [N, ...].

        Raises:
            UnknownModelError: Triton does not have it.
            UnavailableError: Triton cannot be reached, or the model cannot run.
            DeadlineExceededError: No answer within the call's time.
        """
        started = time.perf_counter()
        outcome = "failed"
        try:
            with self._translated():
                answer = await self._client.infer_arrays(
                    self.name, {self._input_name: batch}, [self._output_name], timeout_s=self._timeout_s
                )
            output: npt.NDArray[Any] | None = answer.as_numpy(self._output_name)
            if output is None or len(output) != len(batch):
                raise UnavailableError(
                    f"the model {self.name} on Triton answered without a row for each input", reason="MODEL_MISMATCH"
                )
            outcome = "ok"
            return output
        finally:
            metrics.INFERENCES.labels(self.name, outcome).inc(len(batch))
            metrics.INFERENCE_SECONDS.labels(self.name).observe(time.perf_counter() - started)

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
            return UnknownModelError(self.name)
        return self._unavailable(f"{status} {text}")

    def _unavailable(self, text: str) -> ServiceError:
        # Triton answers INTERNAL while a model's process is dead: to the caller that is the same as being away.
        _log.warning("inference failed", model=self.name, error=text)
        return UnavailableError(
            f"the model {self.name} cannot run now: Triton does not answer it; try again after the retry delay",
            reason="INFERENCE_UNAVAILABLE",
            metadata={"model": self.name},
        )
