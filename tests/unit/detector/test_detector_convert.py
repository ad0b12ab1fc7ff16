import math

import pytest

from shoppable.detector import convert
from shoppable.detector.apparel import Region
from shoppable.detector.detections import Derivation, Detection, DetectionOptions
from shoppable.detector.taxonomy import Sort, Taxonomy
from shoppable.runtime.categories import Category
from shoppable.runtime.errors import InvalidRequestError, UnavailableError
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb

CATEGORIES = {
    "kitchen": Category(name="Kitchen"),
    "bottles": Category(name="Bottles", parent="kitchen"),
    "drinkware": Category(name="Cups", parent="kitchen"),
    "footwear": Category(name="Shoes"),
}
SORTS = {
    "one": [Sort("person", "", "person"), Sort("cup", "drinkware", "cup")],
    "two": [Sort("mug", "drinkware", "cup"), Sort("cup", "drinkware", "cup"), Sort("boot", "footwear", "footwear")],
}
TAXONOMY = Taxonomy(CATEGORIES, SORTS, {Region.FEET: "footwear"})


def read(message: pb.DetectionOptions) -> DetectionOptions:
    violations = Violations()
    options = convert.read_options(message, "options", violations, taxonomy=TAXONOMY)
    violations.raise_if_any()
    return options


def test_unset_options_are_the_contract_s_defaults() -> None:
    assert read(pb.DetectionOptions()) == DetectionOptions(
        models=(),
        min_score=None,
        categories=frozenset(),
        include_not_for_sale=False,
        max_detections=100,
        derive_apparel_regions=False,
    )


def test_set_options_are_taken_also_at_their_bounds() -> None:
    message = pb.DetectionOptions(
        models=["m"],
        min_score=0,
        categories=["bottles"],
        include_not_for_sale=True,
        max_detections=300,
        derive_apparel_regions=True,
    )

    assert read(message) == DetectionOptions(
        models=("m",),
        min_score=0,
        categories=frozenset({"bottles"}),
        include_not_for_sale=True,
        max_detections=300,
        derive_apparel_regions=True,
    )


def test_category_stands_for_all_that_are_a_part_of_it() -> None:
    assert read(pb.DetectionOptions(categories=["kitchen"])).categories == {"kitchen", "bottles", "drinkware"}


def test_regions_without_categories_in_the_taxonomy_cannot_be_asked_for() -> None:
    violations = Violations()

    convert.read_options(
        pb.DetectionOptions(derive_apparel_regions=True), "config", violations, taxonomy=Taxonomy(CATEGORIES, {})
    )

    with pytest.raises(InvalidRequestError, match=r"config\.derive_apparel_regions"):
        violations.raise_if_any()


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
    assert told["options.categories[1]"] == "must be one of bottles, drinkware, footwear, kitchen"


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


def test_derived_detection_says_what_it_was_derived_from() -> None:
    source = Derivation(Region.FEET, "person", (0.25, 0.0, 0.75, 1.0))
    found = Detection("feet", "footwear", True, (0.25, 0.875, 0.75, 1.0), 0.5, "m", "feet", source)

    (written,) = convert.image_detections((found,)).detections

    assert written.derivation == pb.Derivation(
        region=pb.APPAREL_REGION_FEET,
        source_label="person",
        source_box=common_pb2.BoundingBox(left=0.25, top=0, right=0.75, bottom=1),
    )


def test_categories_become_messages_with_parents_and_labels() -> None:
    written = {category.id: category for category in convert.category_messages(TAXONOMY)}

    assert list(written) == ["bottles", "drinkware", "footwear", "kitchen"]
    assert written["kitchen"] == pb.Category(id="kitchen", display_name="Kitchen")
    assert written["drinkware"] == pb.Category(
        id="drinkware", display_name="Cups", parent="kitchen", labels=["cup", "mug"]
    )
    assert list(written["footwear"].labels) == ["boot"]
    assert list(written["footwear"].derived_regions) == [pb.APPAREL_REGION_FEET]


def test_failure_becomes_a_status() -> None:
    written = convert.image_detections(UnavailableError("later", reason="INFERENCE_UNAVAILABLE"))

    assert (written.status.code, written.status.message, len(written.detections)) == (14, "later", 0)
    assert len(written.status.details) == 2


def test_unreadable_picture_is_told_under_its_field() -> None:
    source = convert.source_of(common_pb2.Image(data=b"no picture"), "images[2].data", max_pixels=100)

    with pytest.raises(InvalidRequestError) as raised:
        source()

    assert [violation.field for violation in raised.value.violations] == ["images[2].data"]


def test_versions_are_read_and_wrong_ones_told_with_the_model_s_name() -> None:
    assert read(pb.DetectionOptions(model_versions={"m": "12"})).model_versions == {"m": "12"}
    long = "x" * 5000
    versions = {"m": "0", "n": "1", "o": "01", "p": "2147483648", "q": "new", "r": "", long: "-1"}
    with pytest.raises(InvalidRequestError) as raised:
        read(pb.DetectionOptions(models=["m", "o", "p", "q", "r"], model_versions=versions))

    told = [(violation.field, violation.description) for violation in raised.value.violations]
    names = {field.split('"')[1] for field, description in told if description.startswith("must be a version")}
    assert names == {"m", "o", "p", "q", "r", "x" * 100}
    names = {field.split('"')[1] for field, description in told if description == "must be of a model that is asked"}
    assert names == {"n", "x" * 100}


def test_more_versions_than_there_can_be_models_are_refused_by_their_number() -> None:
    with pytest.raises(InvalidRequestError, match="must be at most 100, and are 101"):
        read(pb.DetectionOptions(model_versions={str(number): "x" for number in range(101)}))
