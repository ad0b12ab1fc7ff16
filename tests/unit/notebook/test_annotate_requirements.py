"""What the notebook's call says when it cannot work."""

import subprocess
import sys
from pathlib import Path

import pytest

import shoppable

WITHOUT = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "av" else real(name, *rest)
import shoppable
try:
    shoppable.annotate("film.mp4")
except ImportError as error:
    print(error)
"""


def test_without_the_services_it_names_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], check=True, capture_output=True, text=True)
    assert "pip install 'shoppable[local]'" in done.stdout
    assert "but av is missing here" in done.stdout
    assert "shoppable.client" in done.stdout


def test_a_file_that_is_not_there_is_told_before_anything_starts(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        shoppable.annotate(tmp_path / "none.mp4")


def test_the_package_has_no_other_names_of_its_own():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        shoppable.nothing  # noqa: B018
