"""Flags that several commands have, said once."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Annotated

import typer

_CATALOG_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_PRODUCT_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_TARGET = re.compile(r"\S+:\d{1,5}|[a-z][a-z0-9+.-]*:\S+")
_LOCAL = "Local services"


class Inference(enum.StrEnum):
    """What computes the models of local services."""

    TRITON = "triton"
    ONNXRUNTIME = "onnxruntime"


def _target(value: str | None) -> str | None:
    if value and not _TARGET.fullmatch(value):
        raise typer.BadParameter("write HOST:PORT, such as localhost:50050")
    return value or None


def _catalog_id(value: str | None) -> str | None:
    identifier = (value or "").removeprefix("catalogs/")
    if value is not None and not _CATALOG_ID.fullmatch(identifier):
        raise typer.BadParameter(
            "a catalogue's name is 1 to 63 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'"
        )
    return identifier or None


def parse_resource(value: str) -> tuple[str, str]:
    """Read `CATALOG` or `CATALOG/PRODUCT`, with or without the prefixes of resource names.

    Returns:
        The catalogue's id, and the product's, empty if there is none.

    Raises:
        typer.BadParameter: It is neither.
    """
    catalog, _, product = value.removeprefix("catalogs/").partition("/")
    product = product.removeprefix("products/")
    if not _CATALOG_ID.fullmatch(catalog) or (product and not _PRODUCT_ID.fullmatch(product)):
        raise typer.BadParameter(f"{value!r} is neither CATALOG nor CATALOG/PRODUCT")
    return catalog, product


ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="SHOPPABLE_SERVER",
        metavar="HOST:PORT",
        callback=_target,
        help="The orchestrator to ask. Default: local services, started if need be.",
    ),
]
MatcherOption = Annotated[
    str | None,
    typer.Option(
        "--matcher",
        envvar="SHOPPABLE_MATCHER",
        metavar="HOST:PORT",
        callback=_target,
        help="The product matcher to ask; it owns the catalogues. Default: local services, started if need be.",
    ),
]
CatalogOption = Annotated[
    str | None,
    typer.Option("--catalog", "-c", metavar="NAME", callback=_catalog_id, help="Whose products to look for."),
]
InferenceOption = Annotated[
    Inference,
    typer.Option(
        "--inference",
        help="What computes the models: the real Triton, or ONNX Runtime as its substitute where Triton cannot run.",
        rich_help_panel=_LOCAL,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="SHOPPABLE_DATA",
        metavar="DIR",
        file_okay=False,
        help="Folder of the local services' catalogues. Default: ~/.local/share/shoppable.",
        rich_help_panel=_LOCAL,
    ),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        "--models",
        envvar="SHOPPABLE_MODELS",
        metavar="DIR",
        file_okay=False,
        help="Triton model repository. Default: the checkout's deploy/triton/models.",
        rich_help_panel=_LOCAL,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for other programs.")]
