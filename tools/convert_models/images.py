"""Test images in the form that a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convert_models.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from convert_models.contract import ModelContract

SUFFIXES = {".jpg", ".jpeg", ".png"}


def load_images(folder: Path, contract: ModelContract, *, limit: int) -> NDArray[np.uint8]:
    """Up to `limit` pictures of a folder, spread over it by name: UINT8 [n, S, S, 3], RGB."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConversionError(f"there is no picture in {folder}: give --images a folder with JPEG or PNG files")
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    return np.stack([_load(paths[index], contract) for index in chosen])


def _load(path: Path, contract: ModelContract) -> NDArray[np.uint8]:
    side = contract.input_size_px
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if not contract.letterboxed:
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.uint8)
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    canvas = Image.new("RGB", (side, side))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(resized, ((side - width) // 2, (side - height) // 2))
    return np.asarray(canvas, dtype=np.uint8)
