"""What is wrong with a command line is said at once: exit status 2, nothing started."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from shoppable import __version__
from shoppable.cli.app import app
from shoppable.cli.catalog import _catalog_of
from shoppable.cli.options import parse_resource

HEAVY = ("grpc", "google.protobuf", "httpx", "numpy", "PIL", "rich.progress")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner(env={"SHOPPABLE_SERVER": "", "SHOPPABLE_MATCHER": "", "COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def film(tmp_path: Path) -> str:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    return str(path)


def test_version(runner: CliRunner) -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"shoppable {__version__}\n")


@pytest.mark.parametrize(
    "command",
    [[], ["demo"], ["up"], ["annotate"], ["catalog"], ["catalog", "import"], ["catalog", "search"], ["models"]],
)
def test_help_teaches(runner: CliRunner, command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom shoppable.cli.app import app\n"
        "try:\n    app(['annotate', '--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.stderr == ""
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fps", "5", "--keyframes"], "not both"),
        (["--fps", "0"], "0.01"),
        (["--start", "5", "--end", "5"], "--end must be after --start"),
        (["--start", "-1"], "--start"),
        (["--catalog", "Big Shop"], "catalogue"),
        (["--server", "nonsense"], "HOST:PORT"),
        (["--min-confidence", "1.5"], "--min-confidence"),
        (["--matcher", "localhost:1"], "--server"),
        (["--inference", "magic"], "magic"),
        (["--import-catalog", "FEED"], "--catalog NAME"),
        (["--catalog", "c", "--server", "localhost:1", "--import-catalog", "FEED"], "--matcher"),
    ],
)
def test_annotate_refuses_what_cannot_be(
    runner: CliRunner, film: str, tmp_path: Path, arguments: list[str], words: str
) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("")
    result = runner.invoke(app, ["annotate", film, *(str(feed) if one == "FEED" else one for one in arguments)])
    assert result.exit_code == 2
    assert words in result.stderr


def test_annotate_refuses_a_file_that_is_not_there(runner: CliRunner) -> None:
    result = runner.invoke(app, ["annotate", "nowhere.mp4"])
    assert result.exit_code == 2
    assert "there is no file nowhere.mp4" in result.stderr


def test_service_that_cannot_be_reached_is_one_readable_error(runner: CliRunner, film: str) -> None:
    result = runner.invoke(app, ["annotate", film, "--server", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "error: unavailable" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [([], "give --labels FILE"), (["--reset", "--not-for-sale", "0.2"], "goes with --labels")],
)
def test_calibrate_refuses_what_cannot_be(runner: CliRunner, arguments: list[str], text: str) -> None:
    result = runner.invoke(app, ["catalog", "calibrate", "shop", *arguments])
    assert result.exit_code == 2
    assert text in result.stderr


def test_labels_that_cannot_be_used_are_told_line_by_line(runner: CliRunner, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"product_id": "mug"}\n')
    result = runner.invoke(app, ["catalog", "calibrate", "shop", "--labels", str(labels)])
    assert result.exit_code == 1
    assert "line 1: must have images" in result.stderr


def test_missing_samples_are_told(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app, ["demo", "--samples", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "film.mp4 is not there" in result.stderr


def test_delete_asks_and_takes_no_for_an_answer(runner: CliRunner) -> None:
    result = runner.invoke(app, ["catalog", "delete", "shop", "--matcher", "127.0.0.1:1"], input="n\n")
    assert result.exit_code == 1
    assert "Nothing was deleted" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["toaster"]])
def test_serve_names_its_services(runner: CliRunner, arguments: list[str]) -> None:
    result = runner.invoke(app, ["serve", *arguments])
    assert result.exit_code == 2
    assert "orchestrator" in result.output


@pytest.mark.parametrize("service", ["decoder", "detector", "matcher", "orchestrator"])
def test_serve_passes_help_on(runner: CliRunner, service: str) -> None:
    result = runner.invoke(app, ["serve", service, "--help"])
    assert result.exit_code == 0
    assert f"usage: shoppable-{service}" in result.stdout


def test_serve_passes_flags_on(runner: CliRunner) -> None:
    result = runner.invoke(app, ["serve", "decoder", "--port", "many"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop", ("shop", "")),
        ("catalogs/shop", ("shop", "")),
        ("shop/mug.1", ("shop", "mug.1")),
        ("catalogs/shop/products/mug", ("shop", "mug")),
    ],
)
def test_resources_are_read_short_and_long(text: str, expected: tuple[str, str]) -> None:
    assert parse_resource(text) == expected


@pytest.mark.parametrize("text", ["", "Shop", "shop/a/b", "shop/ä", "-shop", "shop-"])
def test_what_is_no_resource_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_resource(text)


def test_feed_gives_its_name_to_the_catalogue() -> None:
    assert _catalog_of(Path("My Shop_2026.jsonl")) == "my-shop-2026"
    with pytest.raises(typer.BadParameter):
        _catalog_of(Path("2026.csv"))
