"""A notebook's one call, in a process of its own: services start once, answer, draw, and end with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton

PROGRAM = """
import json, os, sys, time
import shoppable
film, data, picture = sys.argv[1:]
result = shoppable.annotate(film, catalog="sample", data=__import__("pathlib").Path(data))
from shoppable.notebook import services
first = dict(services._background._endpoints)
again = shoppable.annotate(film, data=__import__("pathlib").Path(data))
image = result.show(3.0)
image.save(picture)
busiest = result.show()
plain = again.show(3.0)
try:
    result.show(99.0)
    late = "drawn"
except ValueError as error:
    late = str(error)
print(json.dumps({
    "records": result.to_records(), "unmatched": again.to_records(), "size": image.size, "late": late,
    "once": first == services._background._endpoints, "pid": os.getpid(),
    "differs": image.tobytes() != plain.tobytes(), "repr": repr(result),
}))
"""


@pytest.fixture(scope="module")
def told(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("notebook")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, samples / "film.mp4", folder / "data", folder / "picture.png"],
        capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) | {"folder": folder}


def test_rows_are_ready_for_a_table(told):
    records = told["records"]
    assert len(records) >= 10
    assert len({tuple(record) for record in records}) == 1, "all rows have the same columns"
    assert all(isinstance(value, str | float | int | None) for record in records for value in record.values())
    matched = [record for record in records if record["decision"] == "match"]
    assert len(matched) >= 7
    for record in matched:
        assert record["product"]
        assert record["product_id"]
        assert record["currency"] == "EUR"
        assert 0 <= record["start_s"] < record["end_s"] <= 14.2
        assert record["confidence"] >= 0.75


def test_without_a_catalogue_objects_have_no_products(told):
    assert told["unmatched"]
    assert {(record["decision"], record["product"]) for record in told["unmatched"]} == {(None, None)}


def test_the_services_start_once_and_end_with_the_process(told):
    assert told["once"]
    assert not (told["folder"] / "data" / "suite.json").exists()
    children = subprocess.run(["pgrep", "-f", str(told["folder"])], capture_output=True, text=True, check=False)
    assert children.stdout.split() == []


def test_a_picture_shows_the_products_in_their_places(told):
    assert told["size"] == [640, 360]
    assert told["differs"]
    assert (told["folder"] / "picture.png").stat().st_size > 10_000
    assert told["late"] == "the video has no frame at 99 s"
    assert "film.mp4" in told["repr"]
