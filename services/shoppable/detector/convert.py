"""Messages to the detector's own terms and back."""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from shoppable.detector.apparel import Box, Region
from shoppable.detector.detections import DEFAULT_MAX_DETECTIONS, Detection, DetectionOptions
from shoppable.detector.letterbox import Pixels
from shoppable.detector.pipeline import Outcome, Source
from shoppable.detector.ports import DetectionModel
from shoppable.detector.taxonomy import Taxonomy
from shoppable.runtime.errors import InvalidRequestError, ServiceError, Violation, to_status
from shoppable.runtime.images import read_image
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb

MOST_DETECTIONS = 300
MOST_NAMES = 100  # of models or categories in one request
_SHOWN_CHARACTERS = 100  # of a caller's name
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
_REGIONS: Mapping[Region, pb.ApparelRegion.ValueType] = MappingProxyType(
    {
        Region.UPPER_BODY: pb.APPAREL_REGION_UPPER_BODY,
        Region.LOWER_BODY: pb.APPAREL_REGION_LOWER_BODY,
        Region.FEET: pb.APPAREL_REGION_FEET,
        Region.WHOLE_OUTFIT: pb.APPAREL_REGION_WHOLE_OUTFIT,
        Region.WHOLE_PERSON: pb.APPAREL_REGION_WHOLE_PERSON,
    }
)


def read_options(
    message: pb.DetectionOptions, field: str, violations: Violations, *, taxonomy: Taxonomy
) -> DetectionOptions:
    """Read what a caller asks for; note what is wrong with it under `field`. Models are not looked up here."""
    prefix = f"{field}."
    known = ", ".join(sorted(taxonomy.categories))
    for name, values in (("models", message.models), ("categories", message.categories)):
        violations.check(
            len(values) <= MOST_NAMES, f"{prefix}{name}", f"must be at most {MOST_NAMES}, and are {len(values)}"
        )
    # All of them in each violation would be more than a status may hold.
    said = f"must be one of {known}"
    for index, category in enumerate(message.categories[:MOST_NAMES]):
        if not violations.check(category in taxonomy.categories, f"{prefix}categories[{index}]", said):
            said = "must be a category of this detector, too"
    min_score = violations.optional_number(message, "min_score", low=0, high=1, default=0, prefix=prefix)
    most = violations.optional_number(
        message, "max_detections", low=1, high=MOST_DETECTIONS, default=DEFAULT_MAX_DETECTIONS, prefix=prefix
    )
    violations.check(
        not message.derive_apparel_regions or bool(taxonomy.derived),
        f"{prefix}derive_apparel_regions",
        "must not be set: this detector's taxonomy has no categories for derived regions",
    )
    return DetectionOptions(
        models=tuple(message.models[:MOST_NAMES]),
        min_score=min_score if message.HasField("min_score") else None,
        categories=taxonomy.within(frozenset(message.categories)),
        include_not_for_sale=message.include_not_for_sale,
        max_detections=int(most),
        derive_apparel_regions=message.derive_apparel_regions,
        model_versions=_read_versions(message, prefix, violations),
    )


def _read_versions(message: pb.DetectionOptions, prefix: str, violations: Violations) -> Mapping[str, str]:
    asked, field = message.model_versions, f"{prefix}model_versions"
    if not violations.check(len(asked) <= MOST_NAMES, field, f"must be at most {MOST_NAMES}, and are {len(asked)}"):
        return {}
    for name, version in asked.items():
        where = f'{field}["{name[:_SHOWN_CHARACTERS]}"]'
        is_asked = not message.models or name in message.models
        violations.check(is_asked, where, "must be of a model that is asked")
        number = int(version) if _VERSION.fullmatch(version) else 0
        violations.check(1 <= number < 2**31, where, f"must be a version, 1..{2**31 - 1}")
    return dict(asked)


def note_unknown_models(options: DetectionOptions, known: Collection[str], field: str, violations: Violations) -> None:
    """Note models that do not exist: for a request that is refused for something else, else they are NOT_FOUND."""
    for index, name in enumerate(options.models):
        violations.check(name in known, f"{field}.models[{index}]", f"must be one of {', '.join(sorted(known))}")


def source_of(image: common_pb2.Image, field: str, *, max_pixels: int) -> Source:
    """Return a function that decodes the picture, or raises InvalidRequestError with violations of `field`."""

    def read() -> Pixels:
        violations = Violations()
        pixels = read_image(image, field, violations, max_pixels=max_pixels)
        violations.raise_if_any()
        assert pixels is not None  # noqa: S101 -- no violation, so there is a picture
        return pixels

    return read


async def read_config(requests: AsyncIterator[pb.StreamDetectObjectsRequest]) -> pb.DetectionOptions:
    """Return the config that a stream begins with.

    Raises:
        InvalidRequestError: The stream begins with something else, or is empty.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("request") != "config":
        raise InvalidRequestError([Violation("config", "must be the first message of the stream")])
    return first.config


async def read_frames(
    requests: AsyncIterator[pb.StreamDetectObjectsRequest], *, max_pixels: int
) -> AsyncIterator[tuple[int, Source]]:
    """Yield the frames that follow the config, with their numbers.

    Raises:
        InvalidRequestError: A message is no frame.
    """
    async for request in requests:
        if request.WhichOneof("request") != "frame":
            raise InvalidRequestError([Violation("frame", "must be set in every message after the first")])
        frame = request.frame
        yield frame.frame_id, source_of(frame.image, "frame.image.data", max_pixels=max_pixels)


def image_detections(outcome: Outcome) -> pb.ImageDetections:
    """Write what was found in a picture, or why nothing was."""
    if isinstance(outcome, ServiceError):
        return pb.ImageDetections(status=to_status(outcome))
    return pb.ImageDetections(detections=[_detection(detection) for detection in outcome])


def model_versions(models: Iterable[DetectionModel]) -> list[common_pb2.ModelVersion]:
    """Write names and versions; the version of a model that is not ready is empty."""
    return [common_pb2.ModelVersion(name=model.spec.name, version=model.state.version) for model in models]


def detection_model(model: DetectionModel, taxonomy: Taxonomy) -> pb.DetectionModel:
    """Write all about a model."""
    state = model.state
    return pb.DetectionModel(
        name=model.spec.name,
        version=state.version,
        labels=[
            pb.DetectionLabel(label=sort.label, category=sort.category, for_sale=sort.for_sale)
            for sort in taxonomy.sorts(model.spec.name)
        ],
        input_width=state.input_width,
        input_height=state.input_height,
        default_min_score=model.spec.min_score,
        ready=state.ready,
        not_ready_reason=state.not_ready_reason,
    )


def sources_of(
    images: Sequence[common_pb2.Image], violations: Violations, *, most: int, max_pixels: int
) -> Sequence[Source]:
    """Return a source for each picture of a request; none if there are none or more than `most`, which is noted."""
    if not violations.check(1 <= len(images) <= most, "images", f"must be 1..{most} pictures, and are {len(images)}"):
        return ()
    return [source_of(image, f"images[{index}].data", max_pixels=max_pixels) for index, image in enumerate(images)]


def category_messages(taxonomy: Taxonomy) -> list[pb.Category]:
    """Write the categories in alphabetical order of their ids."""
    return [
        pb.Category(
            id=category_id,
            display_name=category.name,
            parent=category.parent,
            labels=taxonomy.labels_of(category_id),
            derived_regions=[_REGIONS[region] for region, of in taxonomy.derived.items() if of == category_id],
        )
        for category_id, category in sorted(taxonomy.categories.items())
    ]


def _detection(detection: Detection) -> pb.Detection:
    written = pb.Detection(
        label=detection.label,
        category=detection.category,
        for_sale=detection.for_sale,
        box=_box(detection.box),
        score=detection.score,
        model=detection.model,
    )
    if detection.derivation is not None:
        written.derivation.region = _REGIONS[detection.derivation.region]
        written.derivation.source_label = detection.derivation.label
        written.derivation.source_box.CopyFrom(_box(detection.derivation.box))
    return written


def _box(box: Box) -> common_pb2.BoundingBox:
    left, top, right, bottom = box
    return common_pb2.BoundingBox(left=left, top=top, right=right, bottom=bottom)
