"""`shoppable annotate VIDEO`: the things in a video, and the products that they may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

from shoppable.cli.options import (
    CatalogOption,
    DataOption,
    Inference,
    InferenceOption,
    JsonOption,
    MatcherOption,
    ModelsOption,
    ServerOption,
)

if TYPE_CHECKING:
    from shoppable.cli.services import LocalOptions
    from shoppable.v1.orchestrator_pb2 import AnnotateOptions

_WHAT = "What is wanted"


@dataclass(frozen=True)
class _Wishes:
    """What the flags ask for, apart from where."""

    video: Path | str
    catalog: str | None
    feed: Path | None
    as_json: bool
    report: Path | None
    fps: float | None
    keyframes: bool
    start_s: float | None
    end_s: float | None
    max_objects: int | None
    min_confidence: float | None
    categories: tuple[str, ...]
    clothes: bool
    thumbnails: bool


def annotate(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A file, which is uploaded, or a URI for the decoder.")],
    catalog: CatalogOption = None,
    server: ServerOption = None,
    matcher: MatcherOption = None,
    json: JsonOption = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", dir_okay=False, help="Write a report as one HTML file.")
    ] = None,
    import_catalog: Annotated[
        Path | None,
        typer.Option(
            "--import-catalog",
            metavar="FILE",
            dir_okay=False,
            exists=True,
            help="Import this feed into the catalogue first; what is there already costs next to nothing.",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.01, max=240, help="Frames to look at, a second. Default 5.", rich_help_panel=_WHAT),
    ] = None,
    keyframes: Annotated[
        bool, typer.Option("--keyframes", help="Look at key frames only: fast and rough.", rich_help_panel=_WHAT)
    ] = False,
    start: Annotated[
        float | None, typer.Option("--start", min=0, metavar="SECONDS", help="Begin there.", rich_help_panel=_WHAT)
    ] = None,
    end: Annotated[
        float | None, typer.Option("--end", min=0, metavar="SECONDS", help="End there.", rich_help_panel=_WHAT)
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option("--max-objects", min=1, max=10000, help="No more objects.", rich_help_panel=_WHAT)
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option("--min-confidence", min=0, max=1, help="No less sure products.", rich_help_panel=_WHAT),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", help="Objects of this category; may be repeated.", rich_help_panel=_WHAT),
    ] = None,
    clothes: Annotated[
        bool, typer.Option("--clothes", help="Also where people wear clothes.", rich_help_panel=_WHAT)
    ] = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails/--no-thumbnails", help="Pictures of the best views.", rich_help_panel=_WHAT)
    ] = True,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Find the things in a video, and the products of a catalogue that they may be.

    Without `--catalog`, objects are found and not matched. The catalogue `sample` is imported by itself if the local
    services do not have it yet.

    Examples:
        shoppable annotate film.mp4 --catalog sample --report report.html

        shoppable annotate film.mp4 --catalog shop --import-catalog products.csv

        shoppable annotate film.mp4 --server localhost:50050 --json | jq '.objects[].label'
    """
    from shoppable.cli import running
    from shoppable.cli.services import LocalOptions

    if fps is not None and keyframes:
        raise typer.BadParameter("choose --fps or --keyframes, not both")
    if start is not None and end is not None and end <= start:
        raise typer.BadParameter("--end must be after --start")
    if import_catalog is not None and catalog is None:
        raise typer.BadParameter("--import-catalog needs --catalog NAME to import into")
    if server and import_catalog is not None and not matcher:
        raise typer.BadParameter("to import into the catalogue of --server, name its matcher too: --matcher HOST:PORT")
    if matcher and not server:
        raise typer.BadParameter("--matcher goes with --server here; without it, local services are used")
    wishes = _Wishes(
        video=_source(video),
        catalog=catalog,
        feed=import_catalog,
        as_json=json,
        report=report,
        fps=fps,
        keyframes=keyframes,
        start_s=start,
        end_s=end,
        max_objects=max_objects,
        min_confidence=min_confidence,
        categories=tuple(category or ()),
        clothes=clothes,
        thumbnails=thumbnails,
    )
    options = LocalOptions(inference=inference, data=data, models=models)
    running.run(_annotate(wishes, options, server=server, matcher=matcher))


def _source(video: str) -> Path | str:
    if "://" in video:
        return video
    path = Path(video)
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {video}", param_hint="VIDEO")
    return path


async def _annotate(wishes: _Wishes, options: LocalOptions, *, server: str | None, matcher: str | None) -> None:
    from google.protobuf import json_format

    from shoppable.cli import annotating, rendering
    from shoppable.cli import report as reports
    from shoppable.cli.console import Reporter, make_console
    from shoppable.cli.services import reach
    from shoppable.client import OrchestratorClient, open_channel

    reporter = Reporter()
    async with reach(server=server, matcher=matcher, options=options, reporter=reporter) as endpoints:
        await _prepare_catalog(wishes, endpoints.matcher, local=not server, reporter=reporter)
        async with open_channel(endpoints.orchestrator) as channel:
            response = await annotating.annotate(
                OrchestratorClient(channel), wishes.video, _annotate_options(wishes), reporter
            )
    console = make_console()
    if wishes.as_json:
        # Straight to the stream: a console would wrap lines.
        console.file.write(json_format.MessageToJson(response, ensure_ascii=False) + "\n")
    else:
        if response.objects:
            console.print(rendering.objects_table(response.objects))
        took_s = rendering.seconds(response.summary.elapsed)
        count = len(response.objects) or "No"
        console.print(f"{count} object{'' if count == 1 else 's'} found in {took_s:.1f} s.")
    for failure in response.summary.failures:
        reporter.note(f"went wrong on the way: {failure.message}", style="yellow")
    if wishes.report is not None:
        written = reports.write(response, wishes.report, film=_local_file(wishes.video))
        reporter.done(
            f"report: {written.path}" + (f", with the film beside it: {written.film}" if written.film else "")
        )


async def _prepare_catalog(wishes: _Wishes, matcher: str, *, local: bool, reporter: object) -> None:
    """Import what was asked for, or the sample if it is wanted and missing."""
    from shoppable.cli import catalog_import
    from shoppable.cli.catalog_import import raise_for_broken_rows
    from shoppable.cli.console import Reporter

    assert isinstance(reporter, Reporter)  # noqa: S101 -- named late, to keep imports light
    if wishes.feed is not None and wishes.catalog is not None:
        report = await catalog_import.import_with_progress(
            matcher, wishes.feed, catalog=wishes.catalog, reporter=reporter
        )
        raise_for_broken_rows(report)
    elif local and wishes.catalog == "sample":
        raise_for_broken_rows(await catalog_import.import_sample_if_missing(matcher, reporter))


def _annotate_options(wishes: _Wishes) -> AnnotateOptions:
    from google.protobuf.duration_pb2 import Duration

    from shoppable.v1 import common_pb2, orchestrator_pb2

    options = orchestrator_pb2.AnnotateOptions(
        catalog=f"catalogs/{wishes.catalog}" if wishes.catalog else "",
        categories=wishes.categories,
        derive_apparel_regions=wishes.clothes,
        max_objects=wishes.max_objects,
        min_product_confidence=wishes.min_confidence,
        omit_thumbnails=not wishes.thumbnails,
    )
    if wishes.keyframes:
        options.sampling.keyframes_only.CopyFrom(common_pb2.KeyframeSampling())
    elif wishes.fps is not None:
        options.sampling.frames_per_second = wishes.fps
    for name, value_s in (("start_time", wishes.start_s), ("end_time", wishes.end_s)):
        if value_s is not None:
            moment = Duration()
            moment.FromNanoseconds(round(value_s * 1e9))
            getattr(options, name).CopyFrom(moment)
    return options


def _local_file(video: Path | str) -> Path | None:
    """Return the file of a video, if it is one of this machine."""
    if isinstance(video, Path):
        return video
    parts = urlsplit(video)
    path = Path(unquote(parts.path))
    return path if parts.scheme == "file" and path.is_file() else None
