"""Calls to an inference server, as the tests of Triton and of its substitute make them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc.aio as triton

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

REPOSITORY = Path(__file__).parents[2] / "deploy" / "triton" / "models"
# Model, side of its square input, name and shape of its output.
MODELS = [
    ("detector_coco", 512, "candidates", (100, 6)),
    ("detector_wearables", 300, "candidates", (100, 6)),
    ("embedder", 260, "embeddings", (1280,)),
]


def noise(batch: int, side: int) -> NDArray[np.uint8]:
    """Images that differ from each other and are the same each time."""
    return np.random.default_rng(side).integers(0, 256, size=(batch, side, side, 3), dtype=np.uint8)


async def infer(
    endpoint: str, model: str, images: NDArray[Any], *, output: str | None = None, timeout_s: float = 30.0
) -> NDArray[np.float32]:
    """One call over a connection of its own; returns the one output."""
    tensor = triton.InferInput("images", list(images.shape), "UINT8" if images.dtype == np.uint8 else "FP32")
    tensor.set_data_from_numpy(images)
    outputs = None if output is None else [triton.InferRequestedOutput(output)]
    async with triton.InferenceServerClient(endpoint, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
        result = await client.infer(model, [tensor], outputs=outputs, client_timeout=timeout_s)
    name = output or result.get_response().outputs[0].name
    array: NDArray[np.float32] = result.as_numpy(name)
    return array


async def eventually(condition: Callable[[], bool], *, what: str, deadline_s: float = 30.0) -> None:
    """Waits for a condition; fails the test, naming it, if it does not come true in time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + deadline_s
    while not condition():
        assert loop.time() < end_s, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.02)
