"""A detection model run in this process, written from its description alone: what the service is compared with.

It shares no code with the service: the file with ONNX Runtime, Pillow, and loops. Input: uint8 [1, side, side, 3], RGB,
letterboxed in the middle on black, bicubic. Output: [K, 6] of corners in pixels of the input, score, class; suppressed
class by class at an overlap of 0.6.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from coco_scores import Found
from PIL import Image, ImageOps

_IOU = 0.6
_ERRORS_ONLY = 3


class DirectDetector:
    """A model file."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._side = self._session.get_inputs()[0].shape[1]

    def __call__(self, photo: Path, *, min_score: float) -> list[Found]:
        """Find things in a photo, the best first."""
        with Image.open(photo) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        scale = self._side / max(picture.size)
        width, height = round(picture.width * scale), round(picture.height * scale)
        left, top = (self._side - width) // 2, (self._side - height) // 2
        canvas = Image.new("RGB", (self._side, self._side))
        canvas.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (left, top))
        (rows,) = self._session.run(None, {"images": np.asarray(canvas)[None]})[0]
        kept: list[Found] = []
        for x1, y1, x2, y2, score, number in sorted(rows.tolist(), key=lambda row: -row[4]):
            box = tuple(
                min(max(at, 0.0), 1.0)
                for at in ((x1 - left) / width, (y1 - top) / height, (x2 - left) / width, (y2 - top) / height)
            )
            one = Found(int(number), box, score)  # type: ignore[arg-type]  # four numbers
            if score >= min_score and not any(
                other.number == one.number and _overlap(other, one) > _IOU for other in kept
            ):
                kept.append(one)
        return kept


def _overlap(a: Found, b: Found) -> float:
    (al, at, ar, ab), (bl, bt, br, bb) = a.box, b.box
    shared = max(min(ar, br) - max(al, bl), 0) * max(min(ab, bb) - max(at, bt), 0)
    together = (ar - al) * (ab - at) + (br - bl) * (bb - bt) - shared
    return shared / together if together > 0 else 0.0
