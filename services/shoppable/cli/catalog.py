"""`shoppable catalog`: import, list, get and delete catalogues of products; what else one can do is beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shoppable.cli.catalog_backup import backup, restore
from shoppable.cli.catalog_calibrate import calibrate
from shoppable.cli.catalog_duplicates import duplicates
from shoppable.cli.catalog_files import export
from shoppable.cli.catalog_matcher import local_options, open_matcher, print_json
from shoppable.cli.catalog_reindex import reindex
from shoppable.cli.catalog_search import search
from shoppable.cli.options import (
    CatalogOption,
    DataOption,
    Inference,
    InferenceOption,
    JsonOption,
    MatcherOption,
    ModelsOption,
    parse_resource,
)

app = typer.Typer(
    name="catalog",
    help="Put products into catalogues, and look at them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command("calibrate")(calibrate)
app.command("export")(export)
app.command("duplicates")(duplicates)
app.command("search")(search)
app.command("backup")(backup)
app.command("restore")(restore)
app.command("reindex")(reindex)
_NameArgument = Annotated[str, typer.Argument(metavar="NAME[/PRODUCT]", help="A catalogue, or one of its products.")]


@app.command("import")
def import_(
    feed: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="The feed: JSON lines, CSV, TSV, XML or Parquet."
        ),
    ],
    catalog: CatalogOption = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", metavar="FILE", exists=True, dir_okay=False, help="What the feed calls its fields."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="PLACE",
            exists=True,
            help="Folder, zip or tar file of pictures. Default: beside FILE.",
        ),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch pictures also from addresses inside this network.")
    ] = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Add the products of a feed to a catalogue, which is made if need be.

    **JSON lines**: one object a line, with `product_id`, `title`, `images` (paths relative to the feed, or https
    URLs), and as far as known `description`, `brand`, `category`, `price` ("16.50 EUR", or an object with
    `currency_code`, `units`, `nanos`), `url`, `availability` (in_stock, out_of_stock, preorder, backorder,
    discontinued) and `attributes` (an object of texts).

    **CSV**: the same names as columns; `images` separated by `|`; attributes as columns `attr.color`; the currency
    behind the price or in a column `currency`.

    **Feeds of shops** are known by their `id`: JSON lines, CSV, TSV, XML (RSS or Atom) and Parquet with the fields of
    Google Merchant, Meta or OpenAI (`id`, `title`, `image_link`, `additional_image_link`, `price`, `sale_price`,
    `availability`, `brand`, `google_product_category`, `link`, `gtin`, ...). What is not for a catalogue is left out
    and named. For any other feed a mapping file says what is what:

        [fields]

        sku = "product_id"

        colour = "attr.color"

        internal_note = ""      # left out

    Rows that cannot be taken are listed at the end, and the exit status is 1. Run it again after an interruption or a
    correction: products that are there already are left alone.

    Examples:
        shoppable catalog import products.jsonl --catalog shop

        shoppable catalog import products.csv      # into the catalogue 'products'

        shoppable catalog import merchant.xml -c shop --images pictures.zip
    """
    from shoppable.cli import catalog_import, running

    identifier = catalog or _catalog_of(feed)

    async def work() -> None:
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, endpoint, _):
            report = await catalog_import.import_with_progress(
                endpoint,
                feed,
                catalog=identifier,
                reporter=reporter,
                mapping=mapping,
                pictures=images,
                allow_private=allow_private,
            )
        catalog_import.raise_for_broken_rows(report)

    running.run(work())


@app.command("list")
def list_(
    json: JsonOption = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """List the catalogues."""
    from shoppable.cli import rendering, running
    from shoppable.client import CatalogClient

    async def work() -> None:
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, _, channel):
            catalogs = [catalog async for catalog in CatalogClient(channel).list_catalogs(page_size=1000)]
        if json:
            print_json(catalogs)
        elif catalogs:
            _print(rendering.catalogs_table(catalogs))
        else:
            reporter.note("There are no catalogues yet; make one with: shoppable catalog import FILE --catalog NAME")

    running.run(work())


@app.command("get")
def get(
    name: _NameArgument,
    json: JsonOption = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Show a catalogue and its products, or one product with all that is stored.

    Examples:
        shoppable catalog get sample

        shoppable catalog get sample/mug-teal --json
    """
    from shoppable.cli import rendering, running
    from shoppable.client import CatalogClient

    catalog_id, product_id = parse_resource(name)
    resource = f"catalogs/{catalog_id}"

    async def work() -> None:
        async with open_matcher(local_options(data, inference, models), matcher) as (_, _, channel):
            client = CatalogClient(channel)
            if product_id:
                product = await client.get_product(f"{resource}/products/{product_id}")
                print_json([product]) if json else _print(rendering.product_card(product))
                return
            catalog = await client.get_catalog(resource)
            products = [product async for product in client.list_products(resource, page_size=1000)]
        if json:
            print_json(products)
        else:
            _print(rendering.catalogs_table([catalog]))
            _print(rendering.products_table(products))

    running.run(work())


@app.command("delete")
def delete(
    name: _NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Delete a catalogue with all its products, or one product; asks first.

    Examples:
        shoppable catalog delete shop/old-mug

        shoppable catalog delete shop --yes
    """
    from shoppable.cli import running
    from shoppable.client import CatalogClient

    catalog_id, product_id = parse_resource(name)
    resource = f"catalogs/{catalog_id}"
    what = (
        f"the product {product_id} of {catalog_id}" if product_id else f"the catalogue {catalog_id}, products and all"
    )
    if not yes and not typer.confirm(f"Delete {what}?", err=True):
        typer.echo("Nothing was deleted.", err=True)
        raise typer.Exit(1)

    async def work() -> None:
        async with open_matcher(local_options(data, inference, models), matcher) as (reporter, _, channel):
            client = CatalogClient(channel)
            if product_id:
                await client.delete_product(f"{resource}/products/{product_id}")
            else:
                await client.delete_catalog(resource, force=True)
            reporter.done(f"deleted {what}")

    running.run(work())


def _catalog_of(feed: Path) -> str:
    """Return a catalogue's name made of a feed's."""
    import re

    name = re.sub(r"[^a-z0-9]+", "-", feed.stem.lower()).strip("-")[:63].rstrip("-")
    if not name[:1].isalpha():
        raise typer.BadParameter(f"{feed.name} makes no name for a catalogue: give one with --catalog NAME")
    return name


def _print(what: object) -> None:
    from shoppable.cli.console import make_console

    make_console().print(what)
