"""What an operator can declare of a model, and every mistake that can be made in it."""

import re
from pathlib import Path

import pytest

from shoppable.detector.errors import ConfigurationError
from shoppable.detector.layouts import layout_of
from shoppable.detector.manifest import ModelSpec, read_manifests
from shoppable.detector.settings import DetectorSettings
from shoppable.detector.taxonomy import read_taxonomy

MODEL = "min_score = 0.3\nlabels = ['a', 'b']\n[output]\nlayout = 'candidates'\n"
LAYOUTS = ["candidates", "detections", "detr", "yolov8", "yolov5", "yolox"]


def write(folder: Path, text: str, *, name: str = "mine") -> Path:
    file = folder / name / "shoppable.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_packaged_models_are_declared_and_can_be_named() -> None:
    packaged = DetectorSettings().models

    assert DetectorSettings(models=(Path("packaged"),)).models == packaged
    assert [(model.name, len(model.labels)) for model in read_manifests(packaged)] == [
        ("detector_coco", 80),
        ("detector_wearables", 23),
    ]


def test_models_come_in_the_order_of_the_paths_and_a_folder_s_by_name(tmp_path: Path) -> None:
    for name in ("zebra", "ant"):
        write(tmp_path / "repository", MODEL, name=name)
    (tmp_path / "repository" / "embedder").mkdir()  # has none: it is no detector
    single = write(tmp_path, MODEL.replace("min_score", "name = 'other'\nmin_score"))

    models = read_manifests([single, tmp_path / "repository"])

    assert [model.name for model in models] == ["other", "ant", "zebra"]
    assert [model.file.parent.name for model in models] == ["mine", "ant", "zebra"]


def test_example_of_the_readme_is_all_that_an_operator_needs(tmp_path: Path) -> None:
    settings = DetectorSettings()
    text = (settings.taxonomy_file.parent / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)

    (model,) = read_manifests([write(tmp_path, example)])

    assert layout_of(model).tensors(width=640, height=640)[0].shape == (4 + 3, None)
    taxonomy = read_taxonomy(settings.taxonomy_file, [*read_manifests(settings.models), model])
    assert [sort.category for sort in taxonomy.sorts("mine")] == ["drinkware", "footwear", "apparel-upper"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_can_be_declared_with_nothing_but_its_name(tmp_path: Path, layout: str) -> None:
    (model,) = read_manifests([write(tmp_path, MODEL.replace("candidates", layout))])

    assert layout_of(model).tensors(width=64, height=64)


def test_numbers_of_the_classes_are_from_0_from_another_or_as_listed() -> None:
    base = {"name": "m", "labels": ["a", "b"], "min_score": 0.3, "output": {"layout": "candidates"}}

    assert list(ModelSpec.model_validate(base).numbers) == [0, 1]
    assert list(ModelSpec.model_validate({**base, "first_class": 1}).numbers) == [1, 2]
    assert list(ModelSpec.model_validate({**base, "class_numbers": [90, 13]}).numbers) == [90, 13]


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("labels = ", "", "is not TOML"),
        (MODEL.replace("labels = ['a', 'b']", ""), "labels", "required"),
        (MODEL.replace("'candidates'", "'yolo'"), "output", "'yolov8'"),
        (MODEL.replace("layout", "kind"), "output", "discriminator"),
        (MODEL.replace("0.3", "1.5"), "min_score", "less than or equal to 1"),
        (MODEL.replace("0.3", "nan"), "min_score", ""),
        (MODEL.replace("'b'", "'a'"), "", "a occurs twice"),
        ("first_class = -1\n" + MODEL, "first_class", "greater than"),
        ("class_numbers = [1]\n" + MODEL, "", "class_numbers are 1, and labels 2"),
        ("class_numbers = [1, 1]\n" + MODEL, "", "must differ"),
        ("class_numbers = [1, 2]\nfirst_class = 1\n" + MODEL, "", "exclude each other"),
        (MODEL + "[input]\nwidth = 512\n", "input", "together"),
        (MODEL + "[input]\nwidth = 0\nheight = 8\n", "input.width", "greater than"),
        (MODEL + "[input]\ncolour = 'bgr'\n", "input.colour", "not permitted"),
        (MODEL + "[input]\nmean = [1, 1, 1]\n", "input", "no meaning with dtype = 'uint8'"),
        (MODEL + "[input]\ndtype = 'fp32'\nstd = [1, 0, 1]\n", "input.std.1", "greater than 0"),
        (MODEL + "[input]\ndtype = 'fp32'\ndivide_by = inf\n", "input.divide_by", "finite"),
        (MODEL + "[input]\nfit = 'stretch'\npadding = 114\n", "input", "no meaning with fit = 'stretch'"),
        (MODEL + "[taxonomy]\na = true\n", "taxonomy.a", "must be a category, or false"),
    ],
)
def test_broken_manifest_is_refused_with_file_and_field(tmp_path: Path, text: str, field: str, problem: str) -> None:
    file = write(tmp_path, text)

    with pytest.raises(ConfigurationError) as raised:
        read_manifests([file])

    assert [(mistake.path, mistake.field.split(".category")[0]) for mistake in raised.value.mistakes] == [(file, field)]
    assert problem in raised.value.mistakes[0].problem


def test_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / "a", MODEL, name=name)
    broken = write(tmp_path / "a", "min_score = 2\nlabels = []\nodd = 1\n", name="three")
    again = write(tmp_path / "b", MODEL, name="one")
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")

    with pytest.raises(ConfigurationError) as raised:
        read_manifests([tmp_path / name for name in ("a", "b", "empty", "absent.toml", "latin.toml")])

    told = [(mistake.path, mistake.field) for mistake in raised.value.mistakes]
    assert told[:4] == [(broken, "labels"), (broken, "min_score"), (broken, "output"), (broken, "odd")]
    assert told[4:] == [
        (again, "name"),
        (tmp_path / "empty", ""),
        (tmp_path / "absent.toml", ""),
        (tmp_path / "latin.toml", ""),
    ]
    for said in ("declared in", "holds no model with a shoppable.toml", "cannot be read: No such file", "not UTF-8"):
        assert said in str(raised.value)
