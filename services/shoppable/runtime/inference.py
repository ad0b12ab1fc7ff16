"""One model on Triton, or on anything that speaks its protocol: a batch of arrays in, arrays out.

Needs the extra of a service that infers (tritonclient). Messages of tritonclient's exceptions stay in the logs.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import structlog
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from shoppable.runtime import metrics
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import DeadlineExceededError, ServiceError, UnavailableError
from shoppable.runtime.peers import PeerFiles
from shoppable.runtime.spans import asking

_log = structlog.get_logger(__name__)
# Our largest batch is far below; tritonclient's own default is 2 GiB.
_MAX_MESSAGE_BYTES = 64 * 2**20


class UnknownModelError(Exception):
    """Triton does not have the model."""


@dataclass(frozen=True)
class ModelInfo:
    """What Triton says of a loaded model: input shape without the batch dimension; -1 is a free dimension."""

    name: str
    version: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


@contextlib.asynccontextmanager
async def connect(endpoint: str, files: PeerFiles | None = None) -> AsyncIterator[InferenceServerClient]:
    """Open a channel to Triton at host:port, with TLS if there are files for it. It connects when it is first used."""
    client = InferenceServerClient(
        endpoint,
        creds=files.credentials() if files else None,
        channel_args=[
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),
            # Several replicas of Triton behind one name take turns.
            ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
            # A restarted Triton should be found within a second or two, not after gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ],
    )
    try:
        yield client
    finally:
        await client.close()


class Model:
    """A model with one input and one output, both with a batch dimension first."""

    def __init__(
        self, client: InferenceServerClient, name: str, *, input_name: str, output_name: str, timeout_s: float
    ) -> None:
        self.name = name
        self._client = client
        self._input_name = input_name
        self._output = InferRequestedOutput(output_name)
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
        tensor = InferInput(self._input_name, list(batch.shape), np_to_triton_dtype(batch.dtype))
        tensor.set_data_from_numpy(np.ascontiguousarray(batch))
        started = time.perf_counter()
        outcome = "failed"
        try:
            with asking("triton", self.name), self._translated():
                answer = await self._client.infer(
                    self.name, [tensor], outputs=[self._output], client_timeout=remaining_s(self._timeout_s)
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
