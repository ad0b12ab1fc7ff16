"""A Triton backend in Python that runs a model folder's ONNX file on the CPU with ONNX Runtime.

Triton loads this file once for each model instance, each in a process of its own. The model's configuration
names the file (`default_model_filename`) and may set two parameters: `intra_op_threads`, the threads of one
run, and `images_per_run`, how many images of a request go into one run. It does not batch requests. A model with a
`max_batch_size` of 0 gets its inputs as they come, in one run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_ERRORS_ONLY = 3  # ONNX Runtime's severity: 0 is verbose, 4 is fatal


class TritonPythonModel:
    """One instance of one model: a session of ONNX Runtime and what its requests must look like."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the session.

        Args:
            args: Triton's strings: the configuration as JSON, the model's folder, its version and more.

        Raises:
            pb_utils.TritonModelException: The file is missing, ONNX Runtime refuses it, or a parameter is
                no positive number. Triton then reports the model as failed to load.
        """
        config = json.loads(args["model_config"])
        self._model = config["name"]
        self._images_per_run = _positive(config, name="images_per_run", default=1)
        file_name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / file_name

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _positive(config, name="intra_op_threads", default=1)
        options.inter_op_num_threads = 1
        # Threads that spin while they wait would take the cores from the other instances.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise pb_utils.TritonModelException(f"{self._model}: cannot load {path}: {error}") from error

        self._batches = int(config.get("max_batch_size", 0)) > 0
        self._inputs = {
            tensor["name"]: (_dims(tensor), pb_utils.triton_string_to_numpy(tensor["data_type"]))
            for tensor in config["input"]
        }
        self._output_dims = {tensor["name"]: _dims(tensor) for tensor in config["output"]}
        self._output_types = {
            tensor["name"]: pb_utils.triton_string_to_numpy(tensor["data_type"]) for tensor in config["output"]
        }

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request by itself, so that a bad one cannot spoil another's answer.

        Args:
            requests: What Triton hands over; without dynamic batching it is one.

        Returns:
            One response a request, in the same order; a failed one carries its error and status.
        """
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Frees the session before the process ends."""
        del self._session

    def _answer(self, request: Any) -> Any:
        try:
            inputs = {name: self._input_of(request, name) for name in self._inputs}
            wanted = [name for name in self._output_dims if name in request.requested_output_names()]
            results = self._run(inputs, outputs=wanted, request=request)
        except _RequestError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), error.status))
        except Exception as error:  # the process must go on with the next request
            pb_utils.Logger.log_error(f"{self._model}: {type(error).__name__}: {error}")
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(f"{self._model}: inference failed", pb_utils.TritonError.INTERNAL)
            )
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in zip(wanted, results, strict=True)]
        )

    def _input_of(self, request: Any, name: str) -> np.ndarray[Any, Any]:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is None:
            raise _RequestError(f"{self._model}: the input '{name}' is missing")
        array: np.ndarray[Any, Any] = tensor.as_numpy()
        dims, dtype = self._inputs[name]
        if array.dtype != dtype:
            raise _RequestError(f"{self._model}: '{name}' must be {np.dtype(dtype)}, got {array.dtype}")
        # -1 is a free size.
        fits = all(wanted in (-1, size) for wanted, size in zip(dims[::-1], array.shape[::-1], strict=False))
        if array.ndim != len(dims) + self._batches or not fits:
            expected = ["N", *dims] if self._batches else [*dims]
            raise _RequestError(f"{self._model}: '{name}' must be {expected}, got {list(array.shape)}")
        return array

    def _run(
        self, inputs: dict[str, np.ndarray[Any, Any]], *, outputs: list[str], request: Any
    ) -> list[np.ndarray[Any, Any]]:
        if not self._batches:
            return self._session.run(outputs, inputs)
        rows = {len(array) for array in inputs.values()}
        if len(rows) != 1:
            raise _RequestError(f"{self._model}: the inputs differ in their batch size")
        parts: list[list[np.ndarray[Any, Any]]] = []
        for first in range(0, rows.pop(), self._images_per_run):
            if request.is_cancelled():
                raise _RequestError(f"{self._model}: cancelled", status="CANCELLED")
            parts.append(
                self._session.run(
                    outputs, {name: array[first : first + self._images_per_run] for name, array in inputs.items()}
                )
            )
        if not parts:
            return [np.empty((0, *self._output_dims[name]), dtype=self._output_types[name]) for name in outputs]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class _RequestError(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, message: str, *, status: str = "INVALID_ARG") -> None:
        super().__init__(message)
        # Looked up here and not in the signature: Triton adds the class only after it has read this file.
        self.status = getattr(pb_utils.TritonError, status)


def _positive(config: dict[str, Any], *, name: str, default: int) -> int:
    text = config.get("parameters", {}).get(name, {}).get("string_value", str(default))
    if not text.isdecimal() or int(text) < 1:
        raise pb_utils.TritonModelException(f"{config['name']}: {name} must be a positive number, not '{text}'")
    return int(text)


def _dims(tensor: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor["dims"])
