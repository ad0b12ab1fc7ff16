"""The command's entry point: its groups and global flags, and nothing that takes time to import."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from shoppable import __version__
from shoppable.cli import annotate, catalog, demo, models, serve, up
from shoppable.cli.doctor.command import doctor

app = typer.Typer(
    name="shoppable",
    help="Find the things one can buy in a video.\n\n"
    "Start with `shoppable demo`: it needs nothing but this machine. Then try a film of your own with "
    "`shoppable annotate film.mp4 --catalog sample --report report.html`.",
    epilog="Services to talk to: --server or SHOPPABLE_SERVER (the orchestrator) and --matcher or SHOPPABLE_MATCHER "
    "(the product matcher, which owns the catalogues). Without them, local services are used, and started if need be.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("annotate")(annotate.annotate)
app.add_typer(catalog.app, name="catalog")
app.command("doctor")(doctor)
app.add_typer(models.app, name="models")
app.command("serve", context_settings=serve.CONTEXT_SETTINGS, add_help_option=False)(serve.serve)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"shoppable {__version__}")
        raise typer.Exit


@app.callback()
def _global_flags(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Carry the flags that come before a command."""


def main() -> None:
    """Run the command line; the entry point of the program `shoppable`."""
    # gRPC's own remarks on connections that end are not for the user of a command.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    app()
