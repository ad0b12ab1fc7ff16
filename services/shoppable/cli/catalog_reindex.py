"""`shoppable catalog reindex`: a catalogue made anew from its feed, while it is searched as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoppable.cli.catalog_matcher import local_options, open_matcher
from shoppable.cli.options import DataOption, Inference, InferenceOption, MatcherOption, ModelsOption, parse_resource


def reindex(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The catalogue.")],
    feed: Annotated[
        Path,
        typer.Option("--feed", metavar="FILE", exists=True, dir_okay=False, help="Its products, as for `import`."),
    ],
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", metavar="FILE", exists=True, dir_okay=False, help="What the feed calls its fields."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="PLACE", exists=True, help="Folder, zip or tar file of pictures."),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch pictures also from addresses inside this network.")
    ] = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Make a catalogue anew from its feed, with the server's present embedder, and put it in place at once.

    Pictures are not kept, so the feed is needed: `shoppable catalog export` writes one. Meanwhile the catalogue is
    searched as it is; a product that the feed does not have is gone afterwards. If a row cannot be taken, or the
    catalogue is written to meanwhile, nothing changes. To go to another embedder, let the matcher run the new one as
    `embedder_model` and the old one among `other_embedder_models`.

    Example:
        shoppable catalog reindex shop --feed products.jsonl
    """
    from shoppable.cli import catalog_import, running

    catalog_id, product_id = parse_resource(name)
    if product_id:
        raise typer.BadParameter(f"{name!r} is a product; name a catalogue", param_hint="NAME")

    async def work() -> None:
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, endpoint, _):
            report = await catalog_import.import_with_progress(
                endpoint,
                feed,
                catalog=catalog_id,
                reporter=reporter,
                mapping=mapping,
                pictures=images,
                allow_private=allow_private,
                replace=True,
            )
        catalog_import.raise_for_broken_rows(report)

    running.run(work())
