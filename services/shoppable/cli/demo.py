"""`shoppable demo`: the whole suite on this machine, once, from nothing to a report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoppable.cli.options import Inference, InferenceOption, ModelsOption

if TYPE_CHECKING:
    from shoppable.cli.services import LocalOptions


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", file_okay=False, help="Folder for the result and the report.")
    ] = Path("demo"),
    inference: InferenceOption = Inference.TRITON,
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples",
            metavar="DIR",
            file_okay=False,
            help="Folder with film.mp4, catalog.jsonl and its pictures. Default: the checkout's samples.",
        ),
    ] = None,
    models: ModelsOption = None,
) -> None:
    """Find the products of the sample film, on this machine, in about a minute.

    Starts Triton and the four services, imports the sample catalogue of 33 products, annotates the sample film, and
    writes `result.json` and `report.html`: the film with what was found drawn over it. Then it stops everything and
    leaves nothing else behind; the catalogue goes to a temporary folder, so each run is the same.

    Examples:
        shoppable demo

        shoppable demo --out /tmp/demo --inference onnxruntime
    """
    import tempfile

    from shoppable.cli import running
    from shoppable.cli.services import LocalOptions
    from shoppable.local import locations

    folder = samples or locations.SAMPLES
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shoppable-demo-") as data:
        options = LocalOptions(inference=inference, data=Path(data), models=models)
        running.run(_demo(options, samples=folder, out=out))


async def _demo(options: LocalOptions, *, samples: Path, out: Path) -> None:
    from google.protobuf import json_format

    from shoppable.cli import annotating, catalog_import, rendering, report
    from shoppable.cli.console import Reporter, make_console
    from shoppable.cli.failures import CommandError
    from shoppable.cli.services import started
    from shoppable.client import OrchestratorClient, open_channel
    from shoppable.v1 import orchestrator_pb2

    film, feed = samples / "film.mp4", samples / "catalog.jsonl"
    if missing := [path for path in (film, feed) if not path.is_file()]:
        raise CommandError(
            f"the sample {missing[0]} is not there: run in a checkout, or name its folder with --samples"
        )
    reporter = Reporter()
    begun_s = time.monotonic()
    async with started(options, reporter) as suite:
        await catalog_import.import_with_progress(suite.endpoints.matcher, feed, catalog="sample", reporter=reporter)
        step_s = time.monotonic()
        async with open_channel(suite.endpoints.orchestrator) as channel:
            wanted = orchestrator_pb2.AnnotateOptions(catalog="catalogs/sample")
            response = await annotating.annotate(OrchestratorClient(channel), film, wanted, reporter)
        annotate_s = time.monotonic() - step_s
        film_s = rendering.seconds(response.summary.video.duration)
        reporter.done(f"annotated {film_s:.0f} s of film", seconds=annotate_s)
        step_s = time.monotonic()
    reporter.done("stopped all services", seconds=time.monotonic() - step_s)
    step_s = time.monotonic()
    result = out / "result.json"
    result.write_text(json_format.MessageToJson(response, ensure_ascii=False) + "\n", encoding="utf-8")
    written = report.write(response, out / "report.html", film=film)
    reporter.done("wrote the report", seconds=time.monotonic() - step_s)
    console = make_console()
    console.print(rendering.objects_table(response.objects))
    matched = sum(1 for thing in response.objects if thing.decision == 1)
    console.print(f"{len(response.objects)} objects, {matched} of them matched, in {time.monotonic() - begun_s:.1f} s.")
    console.print(f"Result: {result}", soft_wrap=True)
    console.print(f"Report: {written.path}  (open it in a browser)", soft_wrap=True)
