"""`shoppable catalog export`: a catalogue as a feed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from shoppable.cli.catalog_matcher import local_options, open_matcher
from shoppable.cli.options import DataOption, Inference, InferenceOption, MatcherOption, ModelsOption, parse_resource

_IDS_SHOWN = 5


def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The catalogue.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", dir_okay=False, help="Where to write. Default: stdout.")
    ] = None,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Write a catalogue as JSON lines, which `import` reads; pictures are named by where they came from.

    Paths below the written file's folder are relative to it. Pictures out of an archive are named as in it: import
    the feed with the same `--images`.

    Example:
        shoppable catalog export shop --to shop.jsonl
    """
    from shoppable.cli import catalog_export, running
    from shoppable.client import CatalogClient

    catalog_id, product_id = parse_resource(name)
    if product_id:
        raise typer.BadParameter(f"{name!r} is a product; name a catalogue", param_hint="NAME")
    resource = f"catalogs/{catalog_id}"

    async def work() -> None:
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, _, channel):
            client = CatalogClient(channel)
            await client.get_catalog(resource)  # before a file is made of nothing
            with _writing(to) as file:
                done = await catalog_export.write_feed(
                    client.list_products(resource, page_size=1000), file, (to or Path("x")).resolve().parent
                )
        if done.without_picture:
            some = ", ".join(done.without_picture[:_IDS_SHOWN])
            reporter.note(
                f"{len(done.without_picture)} products have a picture of which nobody said where it is, such as {some}",
                style="yellow",
            )
        reporter.done(f"exported {done.products} products of {catalog_id}")

    running.run(work())


@contextlib.contextmanager
def _writing(path: Path | None) -> Iterator[IO[str]]:
    """Yield a file that is put in its place when all of it was written; stdout if there is no path."""
    if path is None:
        yield sys.stdout
        return
    scratch = path.with_name(f".{path.name}.part")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            yield file
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
