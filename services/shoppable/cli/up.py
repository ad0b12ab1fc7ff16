"""`shoppable up`: the suite on this machine, until it is told to stop."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoppable.cli.options import DataOption, Inference, InferenceOption, ModelsOption

if TYPE_CHECKING:
    from shoppable.cli.services import LocalOptions
    from shoppable.local.suite import LocalSuite


def up(
    port_base: Annotated[
        int,
        typer.Option(
            "--port-base",
            min=0,
            max=65532,
            help="Port of the orchestrator; decoder, detector and matcher take the three behind it. 0: any free ports.",
        ),
    ] = 50050,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--files",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder whose videos may be named as file:// URIs; may be repeated. The samples always may.",
        ),
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Import the sample catalogue first, as 'sample'.")] = False,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Run all services on this machine until Ctrl-C.

    They listen on 127.0.0.1 only. Catalogues are kept in the data folder. Other `shoppable` commands with the same
    data folder find these services by themselves.

    Examples:
        shoppable up --sample

        shoppable up --port-base 0 --files ~/Videos
    """
    from shoppable.cli import running
    from shoppable.cli.services import LocalOptions
    from shoppable.local import locations

    roots = [root for root in (locations.SAMPLES, *(files or [])) if root.is_dir()]
    options = LocalOptions(inference=inference, data=data, models=models, port_base=port_base, file_roots=roots)
    running.run(_up(options, sample=sample))


async def _up(options: LocalOptions, *, sample: bool) -> None:
    from shoppable.cli import catalog_import
    from shoppable.cli.console import Reporter, make_console
    from shoppable.cli.failures import CommandError
    from shoppable.cli.services import started
    from shoppable.local import locations
    from shoppable.local.suite import SuiteError

    reporter = Reporter()
    async with started(options, reporter) as suite:
        if sample:
            feed = locations.SAMPLES / "catalog.jsonl"
            await catalog_import.import_with_progress(
                suite.endpoints.matcher, feed, catalog="sample", reporter=reporter
            )
        make_console().print(_greeting(suite, sample=sample, data=options.data_folder), soft_wrap=True)
        reporter.note("Press Ctrl-C to stop.", style="dim")
        try:
            await suite.wait_for_failure()
        except SuiteError as error:
            message, *details = str(error).splitlines()
            raise CommandError(message, details=details) from error


def _greeting(suite: LocalSuite, *, sample: bool, data: Path) -> str:
    from shoppable.local import locations

    endpoints = suite.endpoints
    request: dict[str, object] = {"source": {"uri": (locations.SAMPLES / "film.mp4").as_uri()}}
    # Without pictures the answer stays below what grpcurl takes by default.
    request["options"] = {"omitThumbnails": True, **({"catalog": "catalogs/sample"} if sample else {})}
    call = shlex.join(["grpcurl", "-plaintext", "-d", json.dumps(request), endpoints.orchestrator])
    return f"""
  orchestrator   {endpoints.orchestrator}
  decoder        {endpoints.decoder}
  detector       {endpoints.detector}
  matcher        {endpoints.matcher}
  inference      {endpoints.inference}
  data           {data}
  logs           {suite.log_folder}

Ask them:

  grpcurl -plaintext {endpoints.orchestrator} list
  {call} shoppable.v1.OrchestratorService/AnnotateVideo
  shoppable annotate film.mp4{" --catalog sample" if sample else ""} --server {endpoints.orchestrator}
"""
