"""Imports a feed with a progress bar; shared by every command that imports."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import typer

from shoppable.cli import feeds
from shoppable.cli.console import Reporter
from shoppable.cli.failures import CommandError
from shoppable.cli.feed_names import FieldNames
from shoppable.cli.importing import ImportReport, IncompleteFeedError, import_feed
from shoppable.cli.picture_archive import ArchiveError
from shoppable.client import CatalogClient, ShoppableError, open_channel
from shoppable.local import locations

_NAMES_SHOWN, _ROWS_SHOWN = 20, 50


async def import_with_progress(
    matcher: str,
    feed: Path,
    *,
    catalog: str,
    reporter: Reporter,
    mapping: Path | None = None,
    pictures: Path | None = None,
    allow_private: bool = False,
    replace: bool = False,
) -> ImportReport:
    """Import a feed, show how far it is, and say what became of it; `mapping` and `pictures` are files of its own.

    With `replace` it becomes the whole catalogue, at once.

    Raises:
        CommandError: The feed cannot be read, or the import broke off.
    """
    begun_s = time.monotonic()
    last = ImportReport()
    try:
        names = FieldNames.from_file(mapping) if mapping else FieldNames()
        total = feeds.count_rows(feed, names)
        if not total:
            raise CommandError(f"{feed} holds no products")
        if names.ignored:
            reporter.note(f"left out, as nothing is known of them: {', '.join(sorted(names.ignored)[:_NAMES_SHOWN])}")
        async with open_channel(matcher) as channel:
            with reporter.bar(f"importing {total} product{'' if total == 1 else 's'}") as bar:

                def show(report: ImportReport) -> None:
                    nonlocal last
                    last = report
                    bar.update(fraction=report.done / total, text=f"{report.done} of {total}")

                report = await import_feed(
                    CatalogClient(channel),
                    feed,
                    catalog=catalog,
                    names=names,
                    pictures=pictures,
                    allow_private=allow_private,
                    replace=replace,
                    on_row=show,
                )
    except feeds.FeedError as error:
        raise CommandError(f"{feed}: {error}") from error
    except ArchiveError as error:
        raise CommandError(str(error)) from error
    except (ShoppableError, IncompleteFeedError) as error:
        if replace:
            reporter.note(f"The catalogue {catalog} is as it was.", style="yellow")
            raise_for_broken_rows(last)
        elif last.done:
            reporter.note(f"{last.done} rows were answered before it broke off; run it again to go on.", style="yellow")
        raise error from None
    parts = [
        f"{number} {what}"
        for number, what in ((report.created, "new"), (report.updated, "changed"), (report.unchanged, "as before"))
        if number
    ]
    good = report.done - len(report.broken)
    text = f"catalogue {catalog}: {good} product{'' if good == 1 else 's'}" + (
        f" ({', '.join(parts)})" if parts else ""
    )
    reporter.done(text, seconds=time.monotonic() - begun_s)
    return report


async def import_sample_if_missing(matcher: str, reporter: Reporter) -> ImportReport:
    """Import the sample catalogue, as `sample`, if the matcher does not have it; return what became of it."""
    async with open_channel(matcher) as channel:
        try:
            await CatalogClient(channel).get_catalog("catalogs/sample", timeout_s=10)
        except ShoppableError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
        else:
            return ImportReport()
    reporter.note("The catalogue 'sample' is not there yet: importing it.")
    feed = locations.SAMPLES / "catalog.jsonl"
    return await import_with_progress(matcher, feed, catalog="sample", reporter=reporter)


def raise_for_broken_rows(report: ImportReport) -> None:
    """List the rows of a feed that were not taken, and exit with 1; return if there are none."""
    from shoppable.cli import rendering
    from shoppable.cli.console import make_console

    if not report.broken:
        return
    console = make_console(stderr=True)
    count = len(report.broken)
    console.print(f"{count} row{' was' if count == 1 else 's were'} not taken:", style="bold red")
    console.print(rendering.broken_rows_table(report.broken[:_ROWS_SHOWN]))
    if count > _ROWS_SHOWN:
        console.print(f"… and {count - _ROWS_SHOWN} more")
    raise typer.Exit(1)
