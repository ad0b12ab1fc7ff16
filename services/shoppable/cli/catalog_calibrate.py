"""`shoppable catalog calibrate`: teach a catalogue how its products look where they are met."""

from __future__ import annotations

import csv
import json as json_format
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from shoppable.v1 import product_catalog_pb2 as pb

_SHOWN = 20  # wrong lines


@dataclass(frozen=True)
class LabelledPictures:
    """A line of the file: pictures of one thing, and what it is; no product if the catalogue does not have it."""

    line: int
    images: tuple[Path, ...]
    product_id: str


class LabelsError(Exception):
    """The file cannot be used; each text names a line."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__("; ".join(texts))
        self.texts = texts


def read_labels(path: Path) -> list[LabelledPictures]:
    """Read all lines, so that nothing is sent of a file that is wrong somewhere.

    Raises:
        LabelsError: A line is no label, or a picture is not there; or there are no lines.
        OSError: It cannot be read.
    """
    found, wrong = [], []
    for line, values in _rows(path):
        try:
            labels = _labels(path.parent, line, values)
        except (TypeError, ValueError) as error:
            wrong.append(f"line {line}: {error}")
            continue
        wrong += [f"line {line}: there is no {image}" for image in labels.images if not image.is_file()]
        found.append(labels)
    if not found and not wrong:
        wrong.append("there are no lines in it")
    if wrong:
        raise LabelsError(wrong)
    return found


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(file)
            for values in reader:
                yield reader.line_num, values
            return
        for line, text in enumerate(file, start=1):
            if text.strip():
                try:
                    yield line, json_format.loads(text)
                except ValueError:
                    yield line, None


def _labels(folder: Path, line: int, values: Any) -> LabelledPictures:
    if not isinstance(values, dict) or not {"images", "image"} & set(values):
        raise ValueError("must have images (or image) and product_id")
    images = values.get("images", values.get("image"))
    if isinstance(images, str):
        images = [part.strip() for part in images.split("|") if part.strip()]
    if not isinstance(images, list) or not images or not all(isinstance(image, str) and image for image in images):
        raise ValueError("images must be paths")
    product_id = values.get("product_id") or ""
    if not isinstance(product_id, str):
        raise TypeError("product_id must be a text; empty for a thing that the catalogue does not have")
    return LabelledPictures(line, tuple(folder / image for image in images), product_id.strip())


def calibrate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The catalogue.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", exists=True, dir_okay=False, help="Labelled pictures: see above."),
    ] = None,
    not_for_sale: Annotated[
        float | None,
        typer.Option(
            "--not-for-sale",
            metavar="SHARE",
            min=0,
            max=0.9,
            help="Share of the things met that the catalogue does not have, if the labels do not say: default 0.2.",
        ),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what was learned.")] = False,
    json: JsonOption = False,
    matcher: MatcherOption = None,
    data: DataOption = None,
    inference: InferenceOption = Inference.TRITON,
    models: ModelsOption = None,
) -> None:
    """Teach a catalogue how its products look where they are met: it finds them better, and knows how sure it is.

    **FILE** is JSON lines, one thing a line: `images` (paths relative to the file, cut to the thing: one, or up to 8
    views of it) and `product_id`, empty for a thing that the catalogue does not have. Or CSV with these columns, the
    images separated by `|`. Fifty things help; hundreds, of the kind of film or photo to be searched, and with their
    share of things that are not for sale, are better. Run it again when the catalogue has grown much.

    Examples:
        shoppable catalog calibrate shop --labels labels.jsonl

        shoppable catalog calibrate shop --reset
    """
    from shoppable.cli import running
    from shoppable.cli.failures import CommandError, UsageError
    from shoppable.client import CatalogClient
    from shoppable.v1 import product_catalog_pb2 as pb

    catalog_id, product_id = parse_resource(name)
    if product_id:
        raise typer.BadParameter(f"{name!r} is a product; name a catalogue")
    if (labels is None) == (not reset):
        raise UsageError("give --labels FILE, or --reset")
    if reset and not_for_sale is not None:
        raise UsageError("--not-for-sale goes with --labels")
    try:
        things = read_labels(labels) if labels else []
    except LabelsError as error:
        raise CommandError(f"{labels} cannot be used", details=error.texts[:_SHOWN]) from error

    async def work() -> None:
        begun_s = time.monotonic()
        options = local_options(data, inference, models)
        async with open_matcher(options, matcher) as (reporter, _, channel):
            with reporter.bar(f"reading {len(things)} things") as bar:
                summary = None
                config = pb.CalibrationConfig(
                    catalog=f"catalogs/{catalog_id}", reset=reset, not_for_sale_share=not_for_sale
                )
                async for response in CatalogClient(channel).calibrate_catalog(config, _messages(things)):
                    if response.WhichOneof("response") == "summary":
                        summary = response.summary
                    else:
                        bar.update(fraction=response.row / things[-1].line, text="")
        if summary is None:
            raise CommandError("the matcher ended without a summary")
        if json:
            print_json([summary])
        elif reset:
            reporter.done(f"catalogue {catalog_id} forgot its calibration")
        else:
            for text in _words(summary):
                reporter.note(text)
            reporter.done(f"calibrated {catalog_id}", seconds=time.monotonic() - begun_s)

    running.run(work())


async def _messages(things: list[LabelledPictures]) -> AsyncIterator[pb.LabelledThing]:
    from shoppable.v1 import product_catalog_pb2 as pb

    for thing in things:
        message = pb.LabelledThing(row=thing.line, product_id=thing.product_id)
        for image in thing.images:
            message.views.add(data=image.read_bytes())
        yield message


def _words(summary: pb.CalibrationSummary) -> Iterator[str]:
    yield f"{summary.things} things, {summary.things_not_for_sale} of them not for sale"
    for when, quality in (("before", summary.before), ("after", summary.after)):
        right = f", right in {quality.match_precision:.0%}" if quality.HasField("match_precision") else ""
        yield (
            f"{when}: the right product first {quality.recall_at_1:.0%}, among five {quality.recall_at_5:.0%};"
            f" called a match {quality.match_rate:.0%}{right}; confidence off by {quality.calibration_error:.2f}"
        )
