"""Files of labelled pictures, as the command reads them."""

import json
from pathlib import Path

import pytest

from shoppable.cli.catalog_calibrate import LabelsError, read_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"picture")
    return tmp_path


def test_json_lines_and_csv_say_the_same(folder: Path) -> None:
    (folder / "l.jsonl").write_text(
        json.dumps({"images": ["a.jpg", "b.jpg"], "product_id": "mug"}) + "\n" + json.dumps({"image": "b.jpg"}) + "\n"
    )
    (folder / "l.csv").write_text("images,product_id\na.jpg|b.jpg,mug\nb.jpg,\n")
    for name in ("l.jsonl", "l.csv"):
        labels = read_labels(folder / name)
        found = [(label.images, label.product_id) for label in labels]
        assert found == [((folder / "a.jpg", folder / "b.jpg"), "mug"), ((folder / "b.jpg",), "")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no lines"),
        ("{", "line 1"),
        ('{"product_id": "mug"}', "must have images"),
        ('{"images": [], "product_id": "mug"}', "must be paths"),
        ('{"images": [1], "product_id": "mug"}', "must be paths"),
        ('{"image": "c.jpg", "product_id": "mug"}', "there is no"),
        ('{"image": "a.jpg", "product_id": 3}', "must be a text"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(folder: Path, text: str, words: str) -> None:
    (folder / "l.jsonl").write_text(text)
    with pytest.raises(LabelsError, match=words):
        read_labels(folder / "l.jsonl")


def test_all_wrong_lines_are_told_at_once(folder: Path) -> None:
    (folder / "l.jsonl").write_text('{"image": "c.jpg"}\n{"image": "a.jpg"}\n[]\n')
    with pytest.raises(LabelsError) as caught:
        read_labels(folder / "l.jsonl")
    assert [text[:6] for text in caught.value.texts] == ["line 1", "line 3"]
