"""One call for a notebook: a video in, its shoppable objects out, from local services that start by themselves.

    result = shoppable.annotate("film.mp4", catalog="sample")
    pandas.DataFrame(result.to_records())
    result.show(3.5)

The services are started by the first call, stay for the next ones, and end with the process. Services that run with the
same data folder already, such as those of `shoppable up`, are used instead. Catalogues are imported with
`shoppable catalog import`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoppable.notebook.annotation import Annotation
    from shoppable.v1.orchestrator_pb2 import AnnotateOptions

__all__ = ["annotate"]

# One of each service's own.
_NEEDED = ("PIL", "av", "httpx", "numpy", "onnxruntime", "pydantic_settings", "qdrant_edge", "rich", "scipy", "typer")


def annotate(
    video: str | Path,
    catalog: str = "",
    *,
    options: AnnotateOptions | None = None,
    data: Path | None = None,
    inference: str = "triton",
) -> Annotation:
    """Find the things in a video, and the products of a catalogue that they may be.

    Args:
        video: A file, or a URI that the decoder of this machine may read.
        catalog: The catalogue's id; empty to find objects only. `sample` is imported by itself if it is missing.
        options: What else is wanted; its own catalogue is replaced by `catalog` if that is given.
        data: Folder of the catalogues; default that of the `shoppable` command.
        inference: What computes the models: `triton`, or `onnxruntime` where Triton cannot run.

    Raises:
        ImportError: The services are not installed.
        FileNotFoundError: There is no such file.
        ValueError: `inference` is neither.
        CommandError: The services cannot be started; the text says why.
        ShoppableError: The call failed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"shoppable.annotate runs the services on this machine, but {', '.join(missing)} is missing here: "
            "pip install 'shoppable[local]'. To ask services elsewhere, use shoppable.client.",
            name=missing[0],
        )
    from shoppable.notebook import services

    source = _source(video)
    folder = data or (Path(os.environ["SHOPPABLE_DATA"]) if os.environ.get("SHOPPABLE_DATA") else None)
    return services.annotate(source, catalog.removeprefix("catalogs/"), options, data=folder, inference=inference)


def _source(video: str | Path) -> Path | str:
    if isinstance(video, str) and "://" in video:
        return video
    path = Path(video).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path
