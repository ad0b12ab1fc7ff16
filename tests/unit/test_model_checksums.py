"""The models in the Triton repository are the ones that were measured; no pointer file or half a download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "deploy" / "triton" / "models"


def _listed() -> dict[str, str]:
    """Digest by path, from the lines of `sha256sum` ("DIGEST  PATH", or " *PATH" in binary mode)."""
    lines = (MODELS / "SHA256SUMS").read_text("utf-8").splitlines()
    digest_and_path = [line.split(maxsplit=1) for line in lines if line.strip()]
    return {path.removeprefix("*").removeprefix("./"): digest for digest, path in digest_and_path}


def test_every_model_is_listed_and_every_listed_model_is_there() -> None:
    present = {path.relative_to(MODELS).as_posix() for path in MODELS.glob("**/*.onnx")}
    assert present == set(_listed())
    assert {Path(path).parts[0] for path in present} == {"detector_coco", "detector_wearables", "embedder"}


@pytest.mark.parametrize("path", ["detector_coco", "detector_wearables", "embedder"])
def test_model_has_its_checksum(path: str) -> None:
    file = f"{path}/1/model.onnx"
    assert hashlib.sha256((MODELS / file).read_bytes()).hexdigest() == _listed()[file]
