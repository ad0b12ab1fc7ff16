"""`shoppable catalog search`: products that a picture may show, or that words or another product lead to."""

from __future__ import annotations

from pathlib import Path
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


def search(
    image: Annotated[
        Path | None, typer.Argument(metavar="[IMAGE]", exists=True, dir_okay=False, help="A JPEG, PNG or WebP picture.")
    ] = None,
    catalog: Annotated[str, typer.Option("--catalog", "-c", metavar="NAME", help="Whose products to look for.")] = "",
    text: Annotated[
        str, typer.Option("--text", "-t", metavar="WORDS", help="Words of title, brand, description.")
    ] = "",
    like: Annotated[str, typer.Option("--like", metavar="PRODUCT", help="Id of a product that looks alike.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="No more products.")] = 5,
    json: JsonOption = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Find products of a catalogue by a picture, by words, by both together, or like another product.

    A picture alone, cut to the thing, is matched: each product is told with how surely it is the thing. With words, or
    with `--like`, products are ranked.

    Examples:
        shoppable catalog search mug.jpg --catalog sample

        shoppable catalog search --text "teal stoneware" --catalog sample

        shoppable catalog search mug.jpg --text large --catalog sample

        shoppable catalog search --like mug-teal --catalog sample
    """
    from shoppable.cli import rendering, running
    from shoppable.client import MatcherClient, ShoppableError
    from shoppable.v1 import product_matcher_pb2 as pb

    if not catalog:
        raise typer.BadParameter("name the catalogue", param_hint="--catalog")
    catalog_id, product_id = parse_resource(catalog)
    if product_id:
        raise typer.BadParameter(f"{catalog!r} is a product; name a catalogue", param_hint="--catalog")
    if not (image or text or like):
        raise typer.BadParameter("give a picture, --text or --like", param_hint="IMAGE")
    if image and like:
        raise typer.BadParameter("give a picture or --like, not both", param_hint="--like")
    name = f"catalogs/{catalog_id}"

    async def match(client: MatcherClient, picture: bytes) -> None:
        request = pb.MatchProductsRequest(catalog=name, max_products=limit)
        request.queries.add().views.add().image.data = picture
        result = (await client.match(request, timeout_s=60)).results[0]
        if result.HasField("status"):
            raise ShoppableError.from_status(result.status)
        print_json([result]) if json else _print(rendering.matches_table(result.products))

    async def rank(client: MatcherClient, picture: bytes | None) -> None:
        request = pb.SearchProductsRequest(catalog=name, text=text, max_products=limit)
        if picture:
            request.image.data = picture
        elif like:
            request.product = f"{name}/products/{like}"
        response = await client.search(request, timeout_s=60)
        print_json([response]) if json else _print(rendering.search_table(response.products))

    async def work() -> None:
        picture = _read(image) if image else None
        async with open_matcher(local_options(data, inference, models), matcher) as (_, _, channel):
            client = MatcherClient(channel)
            if picture and not text:
                await match(client, picture)
            else:
                await rank(client, picture)

    running.run(work())


def _read(image: Path) -> bytes:
    from shoppable.cli.failures import CommandError
    from shoppable.cli.images import is_picture

    data = image.read_bytes()
    if not is_picture(data):
        raise CommandError(f"{image} is not a JPEG, PNG or WebP picture")
    return data


def _print(what: object) -> None:
    from shoppable.cli.console import make_console

    make_console().print(what)
