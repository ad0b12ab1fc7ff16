"""`shoppable catalog backup` and `restore`: a catalogue with all that it knows, as a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from shoppable.cli.catalog_matcher import local_options, open_matcher
from shoppable.cli.options import DataOption, Inference, InferenceOption, MatcherOption, ModelsOption, parse_resource


def backup(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The catalogue.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where to write it.")],
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Write a catalogue to a file: products, vectors and calibration. `restore` needs no pictures and no feed.

    Writes to the catalogue go on meanwhile. The file appears once it is whole; one that is there is replaced.

    Example:
        shoppable catalog backup shop shop.backup
    """
    from shoppable.cli import running
    from shoppable.cli.snapshot_file import write_snapshot
    from shoppable.client import CatalogClient

    catalog = _catalog(name)

    async def work() -> None:
        scratch = file.with_name(f".{file.name}.new")
        try:
            async with open_matcher(local_options(data, inference, models), matcher) as (reporter, _, channel):
                with scratch.open("wb") as target:
                    end = await write_snapshot(CatalogClient(channel).backup_catalog(f"catalogs/{catalog}"), target)
                    target.flush()
                    os.fsync(target.fileno())
            scratch.replace(file)
        finally:
            scratch.unlink(missing_ok=True)
        said = f"{end.product_count} products with {end.image_count} pictures, revision {end.revision}"
        reporter.done(f"{file}: {said}")

    running.run(work())


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What `backup` wrote.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The catalogue that is to be made of it.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a catalogue of this name, whole and at once.")
    ] = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Make a catalogue of a file that `backup` wrote, on any server that runs the same embedder.

    It appears once all of it has been read; until then a catalogue that it replaces is searched as it is.

    Example:
        shoppable catalog restore shop.backup shop
    """
    from shoppable.cli import running
    from shoppable.cli.failures import CommandError
    from shoppable.cli.snapshot_file import SnapshotFileError, read_snapshot
    from shoppable.client import CatalogClient
    from shoppable.v1 import product_catalog_pb2 as pb

    config = pb.RestoreCatalogConfig(catalog=f"catalogs/{_catalog(name)}", replace=replace)

    async def work() -> None:
        made = pb.Catalog()
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, _, channel):
            with reporter.bar("restoring") as bar:
                try:
                    async for response in CatalogClient(channel).restore_catalog(config, read_snapshot(file)):
                        if response.WhichOneof("response") == "catalog":
                            made = response.catalog
                        else:
                            bar.update(fraction=None, text=f"{response.product_count} products")
                except SnapshotFileError as error:
                    raise CommandError(f"{file} {error}") from error
        count = f"{made.product_count} products with {made.image_count} pictures"
        reporter.done(f"catalogue {name}: {count}, revision {made.revision}")

    running.run(work())


def _catalog(name: str) -> str:
    catalog_id, product_id = parse_resource(name)
    if product_id:
        raise typer.BadParameter(f"{name!r} is a product; name a catalogue", param_hint="NAME")
    return catalog_id
