"""The packaged files, and every mistake that an operator can make in a taxonomy."""

import json
from pathlib import Path

import pytest

from shoppable.detector.apparel import Region
from shoppable.detector.errors import ConfigurationError
from shoppable.detector.manifest import ModelSpec, read_manifests
from shoppable.detector.settings import DetectorSettings
from shoppable.detector.taxonomy import Taxonomy, read_taxonomy
from shoppable.runtime.categories import packaged_categories


def model(name: str, *labels: str, taxonomy: dict[str, object] | None = None) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": name, "labels": labels, "output": {"layout": "candidates"}, "min_score": 0.3, "taxonomy": taxonomy}
    )


MODELS = [model("one", "person", "cup"), model("two", "Mug")]
CATEGORIES = '[categories]\ndrinkware = "Cups"\ntableware = { name = "Plates", parent = "drinkware" }\n'
ONE = "[labels.one]\nperson = false\ncup = 'drinkware'\n"
TWO = "[labels.two]\nMug = { category = 'drinkware', kind = 'cup' }\n"


def packaged() -> Taxonomy:
    settings = DetectorSettings()
    return read_taxonomy(settings.taxonomy_file, read_manifests(settings.models))


def test_packaged_files_give_every_label_a_sort() -> None:
    taxonomy = packaged()

    coco = {sort.label: sort for sort in taxonomy.sorts("detector_coco")}
    wearables = {sort.label: sort for sort in taxonomy.sorts("detector_wearables")}
    assert (len(coco), len(wearables)) == (80, 23)
    assert (coco["cup"].category, coco["cup"].for_sale, coco["cup"].kind) == ("drinkware", True, "cup")
    assert not any(coco[label].for_sale for label in ("person", "dog", "car", "bicycle", "fire hydrant", "bench"))
    assert wearables["mug"].kind == wearables["coffee cup"].kind == coco["cup"].kind
    assert wearables["bottle"].kind == coco["bottle"].kind
    assert wearables["person"].kind == coco["person"].kind == "person"
    assert wearables["high heels"].category == "footwear"


def test_packaged_taxonomy_has_the_suite_s_categories_and_one_for_each_region() -> None:
    taxonomy = packaged()

    assert taxonomy.categories == packaged_categories()
    assert taxonomy.derived.keys() == set(Region)
    # Where a model sees shoes they stand for the feet that would be derived: their categories must be one.
    assert (
        taxonomy.derived[Region.FEET]
        == {sort.label: sort for sort in taxonomy.sorts("detector_wearables")}["footwear"].category
    )


def test_packaged_taxonomy_has_the_sample_catalogue_s_categories(samples: Path) -> None:
    taxonomy = packaged()
    coco = {sort.label: sort.category for sort in taxonomy.sorts("detector_coco")}
    rows = [json.loads(line) for line in (samples / "catalog.jsonl").read_text("utf-8").splitlines()]
    frames = json.loads((samples / "ground_truth.json").read_text("utf-8"))["frames"]

    assert {row["category"] for row in rows} <= taxonomy.categories.keys()
    for product in (product for frame in frames for product in frame["products"]):
        assert coco[product["coco_label"]] == product["category"]


def test_sorts_come_in_the_order_of_the_labels(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(CATEGORIES + "[labels.one]\ncup = 'drinkware'\nperson = false\n" + TWO)

    assert [sort.label for sort in read_taxonomy(file, MODELS).sorts("one")] == ["person", "cup"]


def test_labels_of_models_that_are_not_declared_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(CATEGORIES + ONE + TWO + "[labels.three]\nwhatever = false\n")

    assert read_taxonomy(file, MODELS)


def test_file_without_categories_has_the_suite_s_and_a_manifest_can_sort_its_own_labels(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(ONE)
    mine = model("mine", "Mug", "boot", taxonomy={"Mug": {"category": "drinkware", "kind": "cup"}, "boot": "footwear"})

    taxonomy = read_taxonomy(file, [MODELS[0], mine])

    assert taxonomy.categories == packaged_categories()
    assert [(sort.category, sort.kind) for sort in taxonomy.sorts("mine")] == [
        ("drinkware", "cup"),
        ("footwear", "boot"),
    ]
    assert taxonomy.derived == {}


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (CATEGORIES + "[labels.one\n", "", "line 4"),
        ("[categories]\n" + ONE + TWO, "categories", "at least 1"),
        ("[categories]\nDrink-Ware = 'x'\n" + ONE + TWO, "categories.Drink-Ware", "pattern"),
        ("[categories]\na = 'x'\na = 'y'\n" + ONE + TWO, "", "line 3"),
        ("[categories]\na = 7\n" + ONE + TWO, "categories.a", "valid dictionary"),
        (CATEGORIES + 'plates = { name = "x", parent = "?" }\n' + ONE + TWO, "categories.plates.parent", "no category"),
        (CATEGORIES + 'a = { name = "x", parent = "a" }\n' + ONE + TWO, "categories.a.parent", "in a circle: a > a"),
        (CATEGORIES + TWO, "labels.one", "missing"),
        (CATEGORIES + "[labels.one]\nperson = false\n" + TWO, "labels.one", "lacks labels of the model: cup"),
        (CATEGORIES + ONE + "mug = false\n" + TWO, "labels.one.mug", "no label"),
        (
            CATEGORIES + ONE.replace("drinkware", "drinks") + TWO.replace("drinkware", "drinks"),
            "labels.one.cup",
            "'dri",
        ),
        (CATEGORIES + ONE.replace("'drinkware'", "true") + TWO, "labels.one.cup", "must be a category, or false"),
        (CATEGORIES + ONE + TWO.replace("kind", "sort"), "labels.two.Mug.sort", "not permitted"),
        (CATEGORIES + ONE + TWO + "[derived]\nfeet = 'shoes'\n", "derived.feet", "'shoes' is not declared"),
        (CATEGORIES + ONE + TWO + "[derived]\nhead = 'drinkware'\n", "derived.head", "'upper-body'"),
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

    mistake = raised.value.mistakes[0]
    assert mistake.path == file
    assert mistake.field.startswith(field)
    assert problem in mistake.problem
    assert f"{file}: " in str(raised.value)


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(CATEGORIES + ONE.replace("drinkware", "cups") + TWO)
    with pytest.raises(ConfigurationError, match=r"taxonomy\.toml: line 6, labels\.one\.cup: the category 'cups'"):
        read_taxonomy(file, MODELS)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "taxonomy.toml"
    file.write_text(
        '[categories]\na = { name = "A", parent = "b" }\nb = { name = "B", parent = "a" }\n'
        'c = { name = "C", parent = "nowhere" }\n'
        '[labels.one]\ncup = "cups"\nplate = "a"\n'
        '[labels.mine]\nboot = "a"\n'
        '[derived]\nfeet = "shoes"\n'
    )
    mine = model("mine", "boot", taxonomy={"boot": "b"})

    with pytest.raises(ConfigurationError) as raised:
        read_taxonomy(file, [*MODELS, mine])

    assert {mistake.field for mistake in raised.value.mistakes} == {
        "categories.a.parent",
        "categories.b.parent",
        "categories.c.parent",
        "derived.feet",
        "labels.one",  # lacks a label
        "labels.one.cup",
        "labels.one.plate",
        "labels.two",  # is missing
        "labels.mine",  # is in the manifest, too
    }
    assert len(str(raised.value).split("; ")) >= len(raised.value.mistakes)
