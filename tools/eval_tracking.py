"""How well things keep their identity: `make eval-tracking`, or `python tools/eval_tracking.py --help`.

On the sample film and on made scenes whose truth is known, in two ways: the orchestrator's following alone, on true
boxes with a detector's noise (by seed, no models); and, with --suite, the whole suite on the scenes as H.264 files,
matched against the sample catalogue. With --photos, photos of the shared test data stand in for some of the pictures.

The measures are those of TrackEval. `ceiling` is the HOTA of the same detections had each been given to its true
thing. Writes `.build/tracking.json` and prints a table.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the scenes are the tests' own

from shoppable.client import CatalogClient, OrchestratorClient, box_at, open_channel  # noqa: E402
from shoppable.local.suite import LocalSuite, SuiteOptions  # noqa: E402
from shoppable.orchestrator.domain import Box  # noqa: E402
from shoppable.v1 import orchestrator_pb2, product_catalog_pb2  # noqa: E402
from support.catalogs import CATALOG, sample_upserts  # noqa: E402
from support.film_shots import film_shots  # noqa: E402
from support.moving_scenes import SCENES, Shot, Stage  # noqa: E402
from support.tracking_eval import (  # noqa: E402
    TrackingScore,
    followed,
    named_truly,
    noisy,
    said_by,
    scored,
)

SEEDS = range(10)
SAMPLES = ROOT / "samples"
Row = dict[str, float]


def follow_alone(shots: Sequence[Shot]) -> Row:
    """Return the means over all seeds."""
    scores: list[TrackingScore] = []
    ceilings: list[float] = []
    truth = [shot.things for shot in shots]
    pictures = {index: shot.pixels for index, shot in enumerate(shots)}
    for seed in SEEDS:
        frames = noisy(shots, seed)
        objects = followed(frames, pictures)
        scores.append(scored(truth, said_by(objects, [shot.time_s for shot in shots])))
        ceilings.append(scored(truth, named_truly(shots, frames)).hota)
    return row(scores) | {"ceiling": mean(ceilings)}


def row(scores: Sequence[TrackingScore]) -> Row:
    """Return the mean of each measure."""
    return {field.name: mean(getattr(score, field.name) for score in scores) for field in fields(TrackingScore)}


async def suite_rows(films: Mapping[str, tuple[bytes, Sequence[Shot]]], bottles: bytes | None) -> dict[str, Row]:
    """Return what the whole suite makes of films."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        async with LocalSuite(SuiteOptions(data_folder=Path(folder))) as suite:
            await fill_catalog(suite.endpoints.matcher)
            async with open_channel(suite.endpoints.orchestrator) as channel:
                client = OrchestratorClient(channel)
                for name, (film, shots) in films.items():
                    answer = await ask(client, film)
                    said = [boxes_at(answer.objects, shot.time_s) for shot in shots]
                    rows[name] = row([scored([shot.things for shot in shots], said)])
                if bottles:
                    answer = await ask(client, bottles)
                    print("bottle-detection.mp4:", dict(Counter(item.label for item in answer.objects)))
    return rows


async def fill_catalog(address: str) -> None:
    """Import the sample catalogue."""

    async def upserts():
        for upsert in sample_upserts(SAMPLES):
            yield upsert

    config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
    async with open_channel(address) as channel:
        async for _ in CatalogClient(channel).upsert_products(config, upserts()):
            pass


async def ask(client: OrchestratorClient, film: bytes) -> orchestrator_pb2.AnnotateVideoResponse:
    """Return the whole list for a film."""
    source = orchestrator_pb2.AnnotateVideoRequest().source
    source.inline_bytes = film
    options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG, omit_thumbnails=True)
    return await client.annotate(source, options, timeout_s=300)


def boxes_at(objects: Sequence[orchestrator_pb2.ShoppableObject], time_s: float) -> dict[int, Box]:
    """Return where a player would draw the objects."""
    boxes = {number: box_at(found, time_s) for number, found in enumerate(objects)}
    return {n: Box(box.left, box.top, box.right, box.bottom) for n, box in boxes.items() if box is not None}


def print_table(title: str, rows: Mapping[str, Row]) -> None:
    """Print what was measured, as Markdown."""
    print(f"\n{title}\n\n| clip | HOTA | ceiling | AssA | IDF1 | MOTA | switches | objects / things |\n|{' --- |' * 8}")
    for name, item in rows.items():
        ceiling = f"{item['ceiling']:.3f}" if "ceiling" in item else ""
        print(
            f"| {name} | {item['hota']:.3f} | {ceiling} | {item['association']:.3f} | {item['idf1']:.3f} "
            f"| {item['mota']:.3f} | {item['switches']:.1f} | {item['objects']:.1f} / {item['things']:.0f} |"
        )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=5, help="sampled frames a second (default: 5)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="the shared test data's folder")
    parser.add_argument("--suite", action="store_true", help="also through the whole suite, which needs Triton")
    parser.add_argument("--out", type=Path, default=ROOT / ".build" / "tracking.json", help="file to write")
    options = parser.parse_args()

    stage = Stage(SAMPLES, options.photos)
    clips = {scene.name: stage.shots(scene, options.rate) for scene in SCENES}
    clips["sample film"] = film_shots(SAMPLES, options.rate)
    measured = {"alone": {name: follow_alone(shots) for name, shots in clips.items()}}
    print_table(f"Following alone, {len(SEEDS)} seeds, {options.rate:g} frames a second", measured["alone"])
    if options.suite:
        at_five = {scene.name: stage.shots(scene, 5) for scene in SCENES} | {"sample film": film_shots(SAMPLES, 12)}
        films = {scene.name: stage.film(scene) for scene in SCENES} | {
            "sample film": (SAMPLES / "film.mp4").read_bytes()
        }
        bottles = (options.photos / "videos/bottle-detection.mp4").read_bytes() if options.photos else None
        measured["suite"] = asyncio.run(suite_rows({n: (films[n], at_five[n]) for n in films}, bottles))
        print_table("The whole suite", measured["suite"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"rate": options.rate, **measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
