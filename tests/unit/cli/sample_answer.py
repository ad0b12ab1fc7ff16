"""An answer for the sample film as a perfect suite would give it, made of the ground truth."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from shoppable.v1 import orchestrator_pb2 as pb
from shoppable.v1 import product_catalog_pb2

SAMPLES = Path(__file__).parents[3] / "samples"
_EVERY = 2  # frames
_GAP_FRAMES = 6


def _duration(value_s: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(value_s * 1e9))
    return duration


def products() -> dict[str, product_catalog_pb2.Product]:
    """The sample catalogue, with pictures as the import states them."""
    made = {}
    for line in (SAMPLES / "catalog.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        product = product_catalog_pb2.Product(
            name=f"catalogs/sample/products/{row['product_id']}",
            title=row["title"],
            brand=row["brand"],
            category=row["category"],
            uri=row["url"],
        )
        product.price.currency_code = row["price"]["currency_code"]
        product.price.units = row["price"]["units"]
        product.price.nanos = row["price"]["nanos"]
        for number, image in enumerate(row["images"], 1):
            product.images.add(image_id=str(number), uri=(SAMPLES / image).as_uri())
        made[row["product_id"]] = product
    return made


def sample_answer() -> pb.AnnotateVideoResponse:
    """The answer: all three decisions occur, and every product has a runner-up."""
    truth = json.loads((SAMPLES / "ground_truth.json").read_text("utf-8"))
    catalog = products()
    seen: dict[str, list[tuple[int, list[float], str]]] = {}
    for frame in truth["frames"][::_EVERY]:
        for product in frame["products"]:
            if product["visibility"] > 0.25:
                entry = (frame["frame"], product["box"], product["coco_label"])
                seen.setdefault(product["product_id"], []).append(entry)
    answer = pb.AnnotateVideoResponse()
    others = [product for key, product in catalog.items() if key not in seen]
    for number, (product_id, looks) in enumerate(seen.items()):
        thing = answer.objects.add(
            object_id=f"object-{number}", label=looks[0][2], category=catalog[product_id].category, final=True
        )
        begin = before = looks[0][0]
        for at, (left, top, right, bottom), _ in looks:
            if at - before > _GAP_FRAMES:
                thing.segments.add(start=_duration(begin / 12), end=_duration((before + _EVERY) / 12))
                begin = at
            before = at
            box = thing.boxes.add(time=_duration(at / 12), score=0.8).box
            box.left, box.top, box.right, box.bottom = left / 640, top / 360, right / 640, bottom / 360
        thing.segments.add(start=_duration(begin / 12), end=_duration((before + _EVERY) / 12))
        thing.best_view.time.CopyFrom(thing.boxes[len(thing.boxes) // 2].time)
        thing.decision = (
            pb.ShoppableObject.DESCRIPTOR.fields_by_name["decision"].enum_type.values[1 + number % 3].number
        )
        if product_id in {"laptop-silver-14", "clock-white-walnut", "teddy-honey", "couch-teal-2", "tv-dunes-65"}:
            thing.decision = 1
        thing.confidence = {1: 0.93, 2: 0.41, 3: 0.08}[thing.decision] - 0.01 * number
        first = thing.products.add(
            product=catalog[product_id], similarity=0.8, confidence=thing.confidence, decision=thing.decision
        )
        first.evidence.image_uri = catalog[product_id].images[1].uri
        rival = next((one for one in others if one.category == catalog[product_id].category), others[0])
        thing.products.add(product=rival, similarity=0.6, confidence=0.05, decision=3)
    summary = answer.summary
    summary.video.width, summary.video.height, summary.video.codec = 640, 360, "h264"
    summary.video.average_frame_rate = 12
    summary.video.duration.CopyFrom(_duration(14))
    summary.elapsed.CopyFrom(_duration(11.4))
    summary.frames_sampled = 70
    summary.objects = len(answer.objects)
    for stage, busy_s, items in (("decode", 1.1, 70), ("detect", 10.2, 70), ("match", 3.4, 11)):
        summary.stages.add(stage=stage, busy=_duration(busy_s), items=items)
    for name in ("detector_coco", "detector_wearables"):
        summary.detection_models.add(name=name, version="1")
    summary.embedder.name, summary.embedder.version = "embedder", "1"
    summary.catalog_revision = 33
    return answer
