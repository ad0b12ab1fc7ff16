"""Asks a model for a real inference, on a blank image, and checks the shape of the answer.

Ready flags are no proof: with the process of a model dead, Triton 2.51 still reports the model as ready.
"""

from __future__ import annotations

import asyncio
import math
import socket
from typing import TYPE_CHECKING

import grpc
import numpy as np
from tritonclient import utils as triton_types
from tritonclient.grpc import service_pb2, service_pb2_grpc

from shoppable.local.ports import UNIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from shoppable.local.model_repository import ModelSpec, TensorSpec

_LISTEN_CHECK_S = 0.05
# A side of a blank image for a model that takes any: a multiple of the strides that detectors have.
_FREE_SIZE = 64
_CHANNEL_OPTIONS = [
    # A shared subchannel would remember the refusals of a server that has since been restarted.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
]


class ProbeError(Exception):
    """A model, or the server, does not work."""


class ProbeTimeout(ProbeError):  # noqa: N818 -- an error by its base; the name says which
    """A model did not answer in time: it hangs, or others are before us."""


async def wait_until_listening(endpoint: str, *, has_ended: Callable[[], int | None]) -> None:
    """Returns when a server accepts connections at an address of this machine: host:port or unix:/path.

    Raises:
        ProbeError: The server ended first.
    """
    while True:
        if (status := has_ended()) is not None:
            raise ProbeError(f"it ended with exit status {status}")
        try:
            if endpoint.startswith(UNIX):
                _, writer = await asyncio.open_unix_connection(endpoint.removeprefix(UNIX))
            else:
                host, _, port = endpoint.rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
        except OSError:
            await asyncio.sleep(_LISTEN_CHECK_S)
        else:
            writer.close()
            return


async def probe_model(endpoint: str, model: ModelSpec, *, timeout_s: float) -> None:
    """Sends one blank image through a model.

    Args:
        endpoint: The server's address, as gRPC takes it.
        model: What to ask and what to expect.
        timeout_s: The deadline of the call.

    Raises:
        ProbeTimeout: No answer in time.
        ProbeError: An error, or an answer of another shape.
    """
    request = service_pb2.ModelInferRequest(model_name=model.name)
    for tensor in model.inputs:
        shape = _shape(model, tensor, free=_FREE_SIZE)
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        request.raw_input_contents.append(bytes(_byte_size(tensor, shape=shape)))
    try:
        async with grpc.aio.insecure_channel(endpoint, options=_CHANNEL_OPTIONS) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            response = await stub.ModelInfer(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ProbeTimeout(f"{model.name} did not answer within {timeout_s:g} s") from error
        raise ProbeError(f"{model.name} answered {error.code().name}: {error.details()}") from error
    answered = {tensor.name: (tensor.datatype, tuple(tensor.shape)) for tensor in response.outputs}
    expected = {tensor.name: (tensor.datatype, _shape(model, tensor, free=-1)) for tensor in model.outputs}
    if answered.keys() != expected.keys() or not all(_fits(answered[name], expected[name]) for name in expected):
        raise ProbeError(f"{model.name} answered {answered} where its configuration promises {expected}")


def _shape(model: ModelSpec, tensor: TensorSpec, *, free: int) -> tuple[int, ...]:
    """The shape of a tensor for one image; `free` stands for the sizes that the configuration leaves free."""
    dims = tuple(free if size < 0 else size for size in tensor.dims)
    return (1, *dims) if model.max_batch_size else dims


def _fits(answered: tuple[str, tuple[int, ...]], expected: tuple[str, tuple[int, ...]]) -> bool:
    """Whether a tensor has the type and shape that it should; -1 is any size."""
    sizes, wanted = answered[1], expected[1]
    return (
        answered[0] == expected[0]
        and len(sizes) == len(wanted)
        and all(want in (-1, size) for size, want in zip(sizes, wanted, strict=True))
    )


def _byte_size(tensor: TensorSpec, *, shape: tuple[int, ...]) -> int:
    dtype: type[np.generic] = triton_types.triton_to_np_dtype(tensor.datatype)
    return math.prod(shape) * np.dtype(dtype).itemsize
