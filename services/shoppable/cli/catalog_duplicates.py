"""`shoppable catalog duplicates`: pictures of different products that are nearly the same."""

from __future__ import annotations

from typing import Annotated

import typer

from shoppable.cli.catalog_matcher import local_options, open_matcher, print_json
from shoppable.cli.options import (
    DataOption,
    Inference,
    InferenceOption,
    JsonOption,
    MatcherOption,
    ModelsOption,
    parse_resource,
)


def duplicates(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The catalogue.")],
    min_similarity: Annotated[
        float | None,
        typer.Option("--min-similarity", min=0.5, max=1, help="Lowest likeness of two pictures. Default: 0.92."),
    ] = None,
    differing_in: Annotated[
        str,
        typer.Option("--differing-in", metavar="KEY", help="Only products that differ in brand, or in an attribute."),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="No more pairs.")] = 100,
    json: JsonOption = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Find pictures of different products that are nearly the same, such as copied ones of counterfeit goods.

    Examples:
        shoppable catalog duplicates shop

        shoppable catalog duplicates shop --differing-in seller --json
    """
    from shoppable.cli import rendering, running
    from shoppable.cli.console import make_console
    from shoppable.client import CatalogClient
    from shoppable.v1 import product_catalog_pb2 as pb

    catalog_id, product_id = parse_resource(name)
    if product_id:
        raise typer.BadParameter(f"{name!r} is a product; name a catalogue", param_hint="NAME")
    request = pb.FindDuplicatesRequest(parent=f"catalogs/{catalog_id}", differing_in=differing_in)
    if min_similarity is not None:
        request.min_similarity = min_similarity

    async def work() -> None:
        pairs: list[pb.FindDuplicatesResponse] = []
        more = False
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, _, channel):
            async for pair in CatalogClient(channel).find_duplicates(request):
                if len(pairs) == limit:
                    more = True
                    break
                pairs.append(pair)
        if json:
            print_json(pairs)
        elif pairs:
            make_console().print(rendering.duplicates_table(pairs))
        else:
            reporter.note("No two products have pictures that are nearly the same.")
        if more:
            reporter.note(f"There are more than {limit}; see --limit.", style="yellow")

    running.run(work())
