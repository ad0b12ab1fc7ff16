import math

import pytest

from shoppable.detector import convert
from shoppable.detector.detections import Detection, DetectionOptions
from shoppable.detector.taxonomy import Taxonomy
from shoppable.runtime.errors import InvalidRequestError, UnavailableError
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb

TAXONOMY = Taxonomy({"drinkware": "Cups", "bottles": "Bottles"}, {})


def read(message: pb.DetectionOptions) -> DetectionOptions:
    violations = Violations()
    options = convert.read_options(message, "options", violations, taxonomy=TAXONOMY)
    violations.raise_if_any()
    return options


def test_unset_options_are_the_contract_s_defaults() -> None:
    assert read(pb.DetectionOptions()) == DetectionOptions(
        models=(), min_score=None, categories=frozenset(), include_not_for_sale=False, max_detections=100
    )


def test_set_options_are_taken_also_at_their_bounds() -> None:
    message = pb.DetectionOptions(
        models=["m"], min_score=0, categories=["bottles"], include_not_for_sale=True, max_detections=300
    )

    assert read(message) == DetectionOptions(
        models=("m",), min_score=0, categories=frozenset({"bottles"}), include_not_for_sale=True, max_detections=300
    )


def test_all_that_is_wrong_with_options_is_told_at_once() -> None:
    message = pb.DetectionOptions(min_score=math.nan, categories=["bottles", "boats", ""], max_detections=0)

    with pytest.raises(InvalidRequestError) as raised:
        read(message)

    told = {violation.field: violation.description for violation in raised.value.violations}
    assert set(told) == {
        "options.min_score",
        "options.categories[1]",
        "options.categories[2]",
        "options.max_detections",
    }
    assert told["options.categories[1]"] == "must be one of bottles, drinkware"


@pytest.mark.parametrize(
    "message",
    [
        pb.DetectionOptions(min_score=-0.01),
        pb.DetectionOptions(min_score=1.01),
        pb.DetectionOptions(min_score=math.inf),
        pb.DetectionOptions(max_detections=301),
        pb.DetectionOptions(max_detections=2**32 - 1),
    ],
)
def test_numbers_out_of_range_are_refused(message: pb.DetectionOptions) -> None:
    with pytest.raises(InvalidRequestError):
        read(message)


def test_detections_become_messages() -> None:
    found = Detection("Mug", "drinkware", True, (0.1, 0.2, 0.3, 0.4), 0.5, "m")

    assert convert.image_detections((found,)) == pb.ImageDetections(
        detections=[
            pb.Detection(
                label="Mug",
                category="drinkware",
                for_sale=True,
                box=common_pb2.BoundingBox(left=0.1, top=0.2, right=0.3, bottom=0.4),
                score=0.5,
                model="m",
            )
        ]
    )
    assert convert.image_detections(()) == pb.ImageDetections()


def test_failure_becomes_a_status() -> None:
    written = convert.image_detections(UnavailableError("later", reason="INFERENCE_UNAVAILABLE"))

    assert (written.status.code, written.status.message, len(written.detections)) == (14, "later", 0)
    assert len(written.status.details) == 2


def test_unreadable_picture_is_told_under_its_field() -> None:
    source = convert.source_of(common_pb2.Image(data=b"no picture"), "images[2].data", max_pixels=100)

    with pytest.raises(InvalidRequestError) as raised:
        source()

    assert [violation.field for violation in raised.value.violations] == ["images[2].data"]
