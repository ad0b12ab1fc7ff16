"""The packaged files, and every mistake that an operator can make in files of their own."""

import json
from pathlib import Path

import pytest

from shoppable.detector.errors import ConfigurationError
from shoppable.detector.manifest import ModelSpec, read_manifest
from shoppable.detector.settings import DetectorSettings
from shoppable.detector.taxonomy import read_taxonomy

MODELS = [
    ModelSpec(name="one", labels=("person", "cup"), layout="candidates", min_score=0.3),
    ModelSpec(name="two", labels=("Mug",), layout="candidates", min_score=0.3),
]
CATEGORIES = '[categories]\ndrinkware = "Cups"\ntableware = "Plates"\n'
ONE = "[labels.one]\nperson = false\ncup = 'drinkware'\n"
TWO = "[labels.two]\nMug = { category = 'drinkware', kind = 'cup' }\n"
MODEL = "[[models]]\nname = 'one'\nlayout = 'candidates'\nmin_score = 0.3\nlabels = ['a', 'b']\n"


def test_packaged_files_give_every_label_a_sort() -> None:
    settings = DetectorSettings()
    models = read_manifest(settings.models_file)
    taxonomy = read_taxonomy(settings.taxonomy_file, models)

    assert [(model.name, len(model.labels)) for model in models] == [("detector_coco", 80), ("detector_wearables", 23)]
    coco = {sort.label: sort for sort in taxonomy.sorts("detector_coco")}
    wearables = {sort.label: sort for sort in taxonomy.sorts("detector_wearables")}
    assert (coco["cup"].category, coco["cup"].for_sale, coco["cup"].kind) == ("drinkware", True, "cup")
    assert not any(coco[label].for_sale for label in ("person", "dog", "car", "bicycle", "fire hydrant", "bench"))
    assert wearables["mug"].kind == wearables["coffee cup"].kind == coco["cup"].kind
    assert wearables["bottle"].kind == coco["bottle"].kind
    assert wearables["high heels"].category == "footwear"


def test_packaged_taxonomy_has_the_sample_catalogue_s_categories(samples: Path) -> None:
    settings = DetectorSettings()
    taxonomy = read_taxonomy(settings.taxonomy_file, read_manifest(settings.models_file))
    coco = {sort.label: sort.category for sort in taxonomy.sorts("detector_coco")}
    rows = [json.loads(line) for line in (samples / "catalog.jsonl").read_text("utf-8").splitlines()]
    frames = json.loads((samples / "ground_truth.json").read_text("utf-8"))["frames"]

    assert {row["category"] for row in rows} <= taxonomy.categories.keys()
    for product in (product for frame in frames for product in frame["products"]):
        assert coco[product["coco_label"]] == product["category"]


def test_sorts_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(CATEGORIES + "[labels.one]\ncup = 'drinkware'\nperson = false\n" + TWO)

    assert [sort.label for sort in read_taxonomy(file, MODELS).sorts("one")] == ["person", "cup"]


def test_labels_of_models_that_are_not_declared_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(CATEGORIES + ONE + TWO + "[labels.three]\nwhatever = false\n")

    assert read_taxonomy(file, MODELS)


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (CATEGORIES + "[labels.one\n", "", "line 4"),
        ("", "categories", "required"),
        ("[categories]\n" + ONE + TWO, "categories", "at least 1"),
        ("[categories]\nDrink-Ware = 'x'\n" + ONE + TWO, "categories.Drink-Ware", "pattern"),
        (CATEGORIES + TWO, "labels.one", "missing"),
        (CATEGORIES + "[labels.one]\nperson = false\n" + TWO, "labels.one", "lacks labels of the model: cup"),
        (CATEGORIES + ONE + "mug = false\n" + TWO, "labels.one.mug", "no label"),
        (CATEGORIES + ONE.replace("drinkware", "drinks") + TWO, "labels.one.cup", "'drinks' is not declared"),
        (CATEGORIES + ONE.replace("'drinkware'", "true") + TWO, "labels.one.cup", "must be a category, or false"),
        (CATEGORIES + ONE + TWO.replace("kind", "sort"), "labels.two.Mug.sort", "not permitted"),
        (
            CATEGORIES + ONE + TWO.replace("drinkware", "tableware"),
            "labels.two.Mug",
            "the kind 'cup' is of category 'tableware' here and of category 'drinkware' in labels.one.cup",
        ),
        (CATEGORIES + ONE + TWO.replace("'cup'", "'person'"), "labels.two.Mug", "not for sale in labels.one.person"),
    ],
)
def test_broken_taxonomy_is_refused_with_its_file_and_field(
    tmp_path: Path, text: str, field: str, problem: str
) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError) as raised:
        read_taxonomy(file, MODELS)

    assert raised.value.field.startswith(field)
    assert problem in raised.value.problem
    assert str(raised.value).startswith(str(file))


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("models = ", "", "end of document"),
        ("", "models", "required"),
        ("models = []", "models", "at least 1"),
        (MODEL.replace("labels", "names"), "models.0.labels", "required"),
        (MODEL.replace("'candidates'", "'yolo'"), "models.0.layout", "'candidates'"),
        (MODEL.replace("0.3", "1.5"), "models.0.min_score", "less than or equal to 1"),
        (MODEL.replace("0.3", "nan"), "models.0.min_score", ""),
        (MODEL.replace("'b'", "'a'"), "models.0", "a occurs twice"),
        (MODEL + "input_width = 512\n", "models.0", "together"),
        (MODEL + "input_width = 0\ninput_height = 0\n", "models.0.input_width", "greater than"),
        (MODEL + "colour = 'bgr'\n", "models.0.colour", "not permitted"),
        (MODEL + MODEL, "models.1.name", "twice"),
    ],
)
def test_broken_manifest_is_refused_with_file_and_field(tmp_path: Path, text: str, field: str, problem: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError) as raised:
        read_manifest(file)

    assert raised.value.field == field
    assert problem in raised.value.problem


def test_missing_file_and_other_bytes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml: cannot be read: No such file"):
        read_manifest(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match=r"latin\.toml: is not UTF-8 text"):
        read_manifest(tmp_path / "latin.toml")
