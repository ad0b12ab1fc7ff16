"""A Triton backend in Python that runs a model folder's ONNX file with ONNX Runtime, on the CPU or on a GPU.

Triton loads this file once for each model instance, each in a process of its own. The model's configuration
names the file (`default_model_filename`) and the instance's kind (KIND_CPU, KIND_GPU), and may set two
parameters: `intra_op_threads`, the threads of one run on the CPU, and `images_per_run`, how many images go into
one run at most. What Triton's dynamic batcher hands over together is run together, up to that number. A model with
a `max_batch_size` of 0 gets its inputs as they come, in one run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_ERRORS_ONLY = 3  # ONNX Runtime's severity: 0 is verbose, 4 is fatal
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


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
            providers = providers_of(
                args["model_instance_kind"],
                device=int(args["model_instance_device_id"] or 0),
                available=onnxruntime.get_available_providers(),
            )
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            # ONNX Runtime goes over to the CPU by itself where CUDA does not start, and is then just slow.
            _check_runs_on(providers, self._session.get_providers())
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
        """Answers each request, and computes together what fits into one run.

        Args:
            requests: What Triton hands over; without dynamic batching it is one.

        Returns:
            One response a request, in the same order; a failed one carries its error and status.
        """
        answers: list[Any] = [None] * len(requests)
        accepted = []
        for index, request in enumerate(requests):
            try:
                accepted.append(self._accept(index, request))
            except _RequestError as error:
                answers[index] = _refusal(error)
        for group in _groups(accepted, most=self._images_per_run):
            for one, answer in zip(group, self._answer(group), strict=True):
                answers[one.index] = answer
        return answers

    def finalize(self) -> None:
        """Frees the session before the process ends."""
        del self._session

    def _accept(self, index: int, request: Any) -> _Accepted:
        inputs = {name: self._input_of(request, name) for name in self._inputs}
        wanted = tuple(name for name in self._output_dims if name in request.requested_output_names())
        if not self._batches:
            return _Accepted(index, request, inputs, wanted, rows=None)
        rows = {len(array) for array in inputs.values()}
        if len(rows) != 1:
            raise _RequestError(f"{self._model}: the inputs differ in their batch size")
        return _Accepted(index, request, inputs, wanted, rows=rows.pop())

    def _answer(self, group: Sequence[_Accepted]) -> list[Any]:
        """Answers requests that are computed together; what fails, fails for all of them."""
        try:
            results = self._run(group)
        except _RequestError as error:
            return [_refusal(error) for _ in group]
        except Exception as error:  # the process must go on with the next request
            pb_utils.Logger.log_error(f"{self._model}: {type(error).__name__}: {error}")
            failure = pb_utils.TritonError(f"{self._model}: inference failed", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=failure) for _ in group]
        answers, first = [], 0
        for one in group:
            last = None if one.rows is None else first + one.rows
            tensors = [
                pb_utils.Tensor(name, array if last is None else array[first:last])
                for name, array in zip(one.wanted, results, strict=True)
            ]
            answers.append(pb_utils.InferenceResponse(tensors))
            first = last or 0
        return answers

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

    def _run(self, group: Sequence[_Accepted]) -> list[np.ndarray[Any, Any]]:
        outputs, inputs = list(group[0].wanted), group[0].inputs
        if not self._batches:
            results: list[np.ndarray[Any, Any]] = self._session.run(outputs, inputs)
            return results
        if len(group) > 1:
            inputs = {name: np.concatenate([one.inputs[name] for one in group]) for name in inputs}
        parts: list[list[np.ndarray[Any, Any]]] = []
        for first in range(0, sum(one.rows or 0 for one in group), self._images_per_run):
            if all(one.request.is_cancelled() for one in group):
                raise _RequestError(f"{self._model}: cancelled", status="CANCELLED")
            some = {name: array[first : first + self._images_per_run] for name, array in inputs.items()}
            parts.append(self._session.run(outputs, some))
        if not parts:
            return [np.empty((0, *self._output_dims[name]), dtype=self._output_types[name]) for name in outputs]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Accepted:
    """A request that can be computed."""

    index: int  # among the requests that came together
    request: Any
    inputs: dict[str, np.ndarray[Any, Any]]
    wanted: tuple[str, ...]  # names of outputs
    rows: int | None  # images; None for a model without a batch dimension

    def joins(self, group: Sequence[_Accepted], *, most: int) -> bool:
        """Whether it can be computed together with others."""
        if self.rows is None or group[0].wanted != self.wanted:
            return False
        return self.rows + sum(one.rows or 0 for one in group) <= most and all(
            array.shape[1:] == group[0].inputs[name].shape[1:] for name, array in self.inputs.items()
        )


class _RequestError(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, message: str, *, status: str = "INVALID_ARG") -> None:
        super().__init__(message)
        # Looked up here and not in the signature: Triton adds the class only after it has read this file.
        self.status = getattr(pb_utils.TritonError, status)


def providers_of(kind: str, *, device: int, available: Sequence[str]) -> list[Any]:
    """Chooses how ONNX Runtime computes.

    Args:
        kind: The instance's, as Triton tells it: CPU or GPU.
        device: The GPU's number.
        available: What this build of ONNX Runtime has.

    Returns:
        Providers, the first being the one that is wanted.

    Raises:
        RuntimeError: A GPU is asked for and this build cannot use one.
    """
    if kind != "GPU":
        return [_CPU]
    if _CUDA not in available:
        raise RuntimeError(
            f"the instance is of KIND_GPU, and this ONNX Runtime has only {', '.join(available)}: "
            "install onnxruntime-gpu in place of onnxruntime, or use KIND_CPU"
        )
    # Operators that CUDA lacks run on the CPU. Convolutions are tuned once for each new batch size: by the heuristic,
    # since the exhaustive search would make the first request of each size wait for seconds.
    return [(_CUDA, {"device_id": device, "cudnn_conv_algo_search": "HEURISTIC"}), _CPU]


def _check_runs_on(wanted: Sequence[Any], used: Sequence[str]) -> None:
    first = wanted[0] if isinstance(wanted[0], str) else wanted[0][0]
    if first not in used:
        raise RuntimeError(f"ONNX Runtime could not start {first}: see its own messages in the log")


def _groups(accepted: Sequence[_Accepted], *, most: int) -> list[list[_Accepted]]:
    """Puts neighbours together that can be computed together, up to `most` images, and a larger one by itself."""
    groups: list[list[_Accepted]] = []
    for one in accepted:
        if groups and one.joins(groups[-1], most=most):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _refusal(error: _RequestError) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), error.status))


def _positive(config: dict[str, Any], *, name: str, default: int) -> int:
    text = config.get("parameters", {}).get(name, {}).get("string_value", str(default))
    if not text.isdecimal() or int(text) < 1:
        raise pb_utils.TritonModelException(f"{config['name']}: {name} must be a positive number, not '{text}'")
    return int(text)


def _dims(tensor: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor["dims"])
