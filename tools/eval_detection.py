"""How right the detector is, through the whole service: `make eval-detection`, or `--help`.

JPEG files go in and boxes come out, with the real Triton underneath. On a labelled folder (COCO128's form, see
`coco_scores`): the average precision of the COCO model through the service, that of the model file run directly in this
process, and that of both models fused, on COCO's classes. On photos of clothing, a folder for each kind of garment: how
many have a detection of that kind, with and without the regions derived from people. Writes `detection.json`.

The labelled photos of COCO128 are of COCO's training set. What is said of whether the model has seen them differs, so
the precision here is for comparison, between two ways or two days, and is not that on unseen photos.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from coco_scores import Found, Photo, Precision, precision, read_photos
from direct_detector import DirectDetector

from shoppable.client import DetectorClient
from shoppable.detector.manifest import read_manifests
from shoppable.detector.server import build
from shoppable.detector.settings import DetectorSettings
from shoppable.detector.taxonomy import Taxonomy, read_taxonomy
from shoppable.local.locations import MODEL_REPOSITORY
from shoppable.local.triton import TritonServer
from shoppable.runtime.categories import lineage
from shoppable.runtime.logs import configure_logs
from shoppable.runtime.server import serving
from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb

ROOT = Path(__file__).parents[1]
COCO = "detector_coco"
MOST_DIFFERENCE = 0.003
# As COCO's own evaluations do: precision is a matter of the order, so that nothing may be left out.
_ANY_SCORE = 0.001
_SHOE_SCORE = 0.3
# The folder of a kind of garment, and the category that it is sold under.
GARMENTS = {
    "dress": "apparel-outfit",
    "hat": "accessories",
    "longsleeve": "apparel-upper",
    "outwear": "apparel-upper",
    "pants": "apparel-lower",
    "shirt": "apparel-upper",
    "shoes": "footwear",
    "shorts": "apparel-lower",
    "skirt": "apparel-lower",
    "t-shirt": "apparel-upper",
}


@dataclass(frozen=True)
class CocoScores:
    """Precision on labelled photos, by way of asking."""

    photos: int
    service: Precision
    direct: Precision
    fused: Precision
    fused_by_default_scores: Precision
    service_by_default_scores: Precision

    @property
    def difference(self) -> float:
        """Of the service to the model file alone."""
        return self.service.mean - self.direct.mean


@dataclass(frozen=True)
class Garment:
    """Photos of a kind of garment: in how many something of its category is found."""

    kind: str
    category: str
    photos: int
    people: int  # photos in which a model sees a person
    seen: int
    with_regions: int
    with_regions_or_above: int  # of the category, or of one that it is a part of


class Service:
    """A detector to ask, and what its labels mean."""

    def __init__(self, client: DetectorClient, taxonomy: Taxonomy, numbers: Mapping[str, int]) -> None:
        """Take a client, the detector's taxonomy, and the number of each kind of thing among the labelled classes."""
        self.taxonomy = taxonomy
        self._client = client
        self._kinds = {
            (model, sort.label): sort.kind
            for model in ("detector_coco", "detector_wearables")
            for sort in taxonomy.sorts(model)
        }
        self._numbers = numbers

    async def detect(self, paths: Sequence[Path], **options: object) -> dict[Path, list[pb.Detection]]:
        """Return the detections of each file, sent as it is."""

        async def frames() -> AsyncIterator[pb.DetectionFrame]:
            for number, path in enumerate(paths):
                yield pb.DetectionFrame(frame_id=number, image=common_pb2.Image(data=path.read_bytes()))

        found: dict[Path, list[pb.Detection]] = {}
        asked = pb.DetectionOptions(**options)  # type: ignore[arg-type]
        async for answer in self._client.stream_detect(frames(), asked):
            if answer.HasField("frame"):
                if answer.frame.result.HasField("status"):
                    sys.exit(f"{paths[answer.frame.frame_id]}: {answer.frame.result.status.message}")
                found[paths[answer.frame.frame_id]] = list(answer.frame.result.detections)
        return found

    async def classes(self, photos: Sequence[Photo], **options: object) -> dict[Path, list[Found]]:
        """As `detect`, in numbers of the labelled classes; what is of none of them is left out."""
        everything = await self.detect(
            [photo.path for photo in photos], include_not_for_sale=True, max_detections=300, **options
        )
        return {
            path: [
                Found(number, (one.box.left, one.box.top, one.box.right, one.box.bottom), one.score)
                for one in detections
                if (number := self._numbers.get(self._kinds[one.model, one.label])) is not None
            ]
            for path, detections in everything.items()
        }


@contextlib.asynccontextmanager
async def service_on(triton_endpoint: str) -> AsyncIterator[Service]:
    """Serve a detector with the packaged models on a free port while inside."""
    settings = DetectorSettings(port=0, triton_endpoint=triton_endpoint, shutdown_grace_s=0)
    taxonomy = read_taxonomy(settings.taxonomy_file, read_manifests(settings.models))
    numbers = {sort.kind: number for number, sort in enumerate(taxonomy.sorts(COCO))}
    async with serving(settings, build) as (_, address), grpc.aio.insecure_channel(address) as channel:
        yield Service(DetectorClient(channel), taxonomy, numbers)


async def score_coco(service: Service, photos: Sequence[Photo]) -> CocoScores:
    """Find everything in labelled photos in each way."""
    direct = DirectDetector(MODEL_REPOSITORY / COCO / "1" / "model.onnx")
    alone = {photo.path: direct(photo.path, min_score=_ANY_SCORE) for photo in photos}
    return CocoScores(
        photos=len(photos),
        service=precision(photos, await service.classes(photos, models=[COCO], min_score=_ANY_SCORE)),
        direct=precision(photos, alone),
        fused=precision(photos, await service.classes(photos, min_score=_ANY_SCORE)),
        fused_by_default_scores=precision(photos, await service.classes(photos)),
        service_by_default_scores=precision(photos, await service.classes(photos, models=[COCO])),
    )


async def count_shoes(service: Service, paths: Sequence[Path]) -> int:
    """Return in how many photos of shoes a model itself sees footwear."""
    found = await service.detect(paths, min_score=_SHOE_SCORE, categories=["footwear"])
    return sum(bool(detections) for detections in found.values())


async def count_garments(service: Service, folder: Path) -> list[Garment]:
    """Look at each kind's photos with and without derived regions, at the models' own thresholds."""
    garments = []
    for kind, category in GARMENTS.items():
        paths = sorted((folder / kind).glob("*.jpg"))
        plain = await service.detect(paths, include_not_for_sale=True)
        regions = await service.detect(paths, derive_apparel_regions=True)
        people = {path for path in paths if any(one.label == "person" for one in plain[path])}
        above = frozenset(lineage(category, service.taxonomy.categories))
        counts = [
            sum(any(one.category in wanted for one in found[path]) for path in paths)
            for found, wanted in ((plain, {category}), (regions, {category}), (regions, above))
        ]
        garments.append(Garment(kind, category, len(paths), len(people), *counts))
    return garments


def show_coco(scores: CocoScores) -> None:
    """Print what came of labelled photos."""
    print(f"{scores.photos} labelled photos, average precision (at an overlap of 0.5):")
    for name, one in (
        ("the COCO model through the service", scores.service),
        ("the model file, run directly", scores.direct),
        ("both models fused, on COCO's classes", scores.fused),
        ("the COCO model, default scores", scores.service_by_default_scores),
        ("both fused, default scores", scores.fused_by_default_scores),
    ):
        print(f"  {name:38s} {one.mean:.4f} ({one.at_50:.4f})")
    print(f"  service less direct: {scores.difference:+.4f}; must be within {MOST_DIFFERENCE}")
    print(
        "  These photos are of COCO's training set; whether the model has seen them is not known: no held-out figure."
    )


def show_garments(garments: Sequence[Garment]) -> None:
    """Print what came of photos of clothing."""
    print("photos of clothing: how many; in how many a model sees a person; in how many there is a detection of the")
    print("photographed kind: seen by a model, with derived regions, with those of the category above (apparel) too:")
    for one in garments:
        print(
            f"  {one.kind:11s} {one.category:15s} {one.photos:2d} {one.people:2d}:"
            f" {one.seen:2d} {one.with_regions:2d} {one.with_regions_or_above:2d}"
        )
    print("  Most of these garments lie or hang with nobody in them: what a model takes for a person is the garment.")


async def measure(arguments: argparse.Namespace) -> bool:
    """Measure, print and write; return whether what must hold does."""
    report: dict[str, object] = {}
    holds = True
    async with (
        await TritonServer.start(repository=MODEL_REPOSITORY) as triton,
        service_on(triton.grpc_endpoint) as service,
    ):
        photos = read_photos(arguments.coco, arguments.photos)
        if photos:
            scores = await score_coco(service, photos)
            report["coco"] = asdict(scores) | {"difference": scores.difference}
            show_coco(scores)
            holds = abs(scores.difference) < MOST_DIFFERENCE
        else:
            print(f"skipping the labelled photos: there are none in {arguments.coco} (see --coco)")
        if (arguments.clothing / "shoes").is_dir():
            report["shoes_found"] = await count_shoes(service, sorted(arguments.clothing.glob("shoes/*.jpg")))
            print(f"photos of shoes in which a model sees footwear, at {_SHOE_SCORE}: {report['shoes_found']}")
            garments = await count_garments(service, arguments.clothing)
            report["garments"] = [asdict(one) for one in garments]
            show_garments(garments)
        else:
            print(f"skipping the clothing: there is no {arguments.clothing / 'shoes'} (see --clothing)")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "detection.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {arguments.out / 'detection.json'}")
    return holds


def main() -> None:
    """Measure with the arguments of the command line; exits with 1 if the service is not what the model is."""
    data = ROOT.parent / "shared/data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, default=data / "coco128", help="folder of labelled photos")
    parser.add_argument("--photos", type=int, help="of them only so many (default: all)")
    parser.add_argument("--clothing", type=Path, default=data / "clothing", help="folder of photos of clothing")
    parser.add_argument("--out", type=Path, default=ROOT / ".build/detection", help="folder of the report")
    configure_logs(DetectorSettings(log_level="error"))
    if not asyncio.run(measure(parser.parse_args())):
        sys.exit(f"the service's precision differs from the model's by {MOST_DIFFERENCE} or more")


if __name__ == "__main__":
    main()
