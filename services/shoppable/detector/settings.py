"""All that can be set on the object detector."""

import os
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from shoppable.runtime.settings import Paths
from shoppable.runtime.triton_connection import TritonSettings

_HERE = Path(__file__).parent


def _with_packaged(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Put the suite's own manifests where their name stands."""
    return tuple(_HERE / "models" if path == Path("packaged") else path for path in paths)


class DetectorSettings(TritonSettings):
    """Settings of the object detector."""

    service: ClassVar[str] = "detector"

    port: int = Field(50052, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    models: Annotated[Paths, AfterValidator(_with_packaged)] = Field(
        (_HERE / "models",),
        description="manifests (shoppable.toml) of the models to ask, or folders whose subfolders hold them, such as"
        " Triton's model repository, separated by commas; the word packaged stands for the suite's own",
    )
    taxonomy_file: Path = Field(
        _HERE / "taxonomy.toml", description="TOML file that gives each model's labels their shoppable categories"
    )
    images_per_request: int = Field(32, ge=1, le=1024, description="pictures that one DetectObjects call may bring")
    max_image_pixels: int = Field(
        25_000_000,
        ge=1,
        description="pixels that a picture may have; a thread that decodes may take 26 bytes of memory for each",
    )
    frames_in_flight: int = Field(
        4,
        ge=1,
        le=256,
        description="pictures of one call that are in work at a time; on a GPU set about twice Triton's batch size",
    )
    images_in_work: int = Field(
        32,
        ge=1,
        le=4096,
        description="pictures of all calls together that are in work at a time; the others wait for their turn",
    )
    inference_timeout_s: float = Field(
        10.0, gt=0, description="seconds that Triton has for one picture; then the picture fails as UNAVAILABLE"
    )
    preprocess_threads: int = Field(
        # Decoding and resizing leave Python's lock, so threads help up to the number of cores.
        min(8, os.cpu_count() or 1),
        ge=1,
        le=64,
        description="threads that decode and resize pictures",
    )
    fusion_iou: float = Field(
        0.55,
        gt=0,
        le=1,
        description="overlap (intersection over union) from which two boxes of one kind of thing are the same thing",
    )
