"""`shoppable serve SERVICE`: one service in this process, as containers run it. All flags are the service's own."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

SERVICES = ("decoder", "detector", "matcher", "orchestrator")
# Whatever is not ours, `--help` included, is the service's to read.
CONTEXT_SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def serve(
    context: typer.Context,
    service: Annotated[str | None, typer.Argument(metavar="SERVICE", help="Which service.")] = None,
) -> None:
    """Run one service: decoder, detector, matcher or orchestrator.

    Its flags follow its name; see `shoppable serve decoder --help`.
    """
    if service in (None, "-h", "--help"):
        typer.echo(_USAGE)
        raise typer.Exit(0 if service else 2)
    if service not in SERVICES:
        typer.echo(f"shoppable serve: there is no service {service!r}; there are {', '.join(SERVICES)}", err=True)
        raise typer.Exit(2)
    try:
        module = importlib.import_module(f"shoppable.{service}.__main__")
    except ModuleNotFoundError as error:
        typer.echo(
            f"shoppable serve {service}: {error.name} is not installed; run pip install 'shoppable[{service}]'",
            err=True,
        )
        raise typer.Exit(1) from error
    module.main(context.args)


_USAGE = """Usage: shoppable serve SERVICE [FLAGS]

Runs one service in this process until SIGTERM or Ctrl-C, as containers do.

Services:
  decoder        a video in, sampled frames out
  detector       pictures in, boxes out; needs a Triton
  matcher        crops in, products out, and the catalogues; needs a Triton, and Qdrant or a data folder
  orchestrator   a video in, its shoppable objects out; needs the other three

Examples:
  shoppable serve decoder --help
  shoppable serve decoder --port 50051 --file-roots /videos
  shoppable serve detector --port 50052 --triton-endpoint triton:8001"""
