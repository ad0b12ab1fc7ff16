"""The command as a user has it: a process of its own, real services, real models."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton

pytestmark = pytest.mark.timeout(300)
_LIMIT_S = 120.0
_GONE_LIMIT_S = 30.0


@pytest.fixture(scope="module")
def inference() -> str:
    """The real Triton where it runs, else its substitute."""
    try:
        find_triton(Host.current())
    except TritonRequirementError:
        return "onnxruntime"
    return "triton"


@dataclass
class Command:
    """A running command, and what it has said so far."""

    process: subprocess.Popen[str]
    mark: Path
    said: list[str] = field(default_factory=list)
    heard: threading.Condition = field(default_factory=threading.Condition)

    def listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.heard:
                self.said.append(line)
                self.heard.notify_all()

    def wait_for_words(self, words: str) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: words in "".join(self.said), _LIMIT_S), "".join(self.said)

    def finish(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        return self.process.wait(_LIMIT_S), output


class Shop:
    """A user with a home of their own, by which the processes they start are known."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SHOPPABLE_", "XDG_"))},
            "HOME": str(home),
            # Every process of the suite inherits it, Triton too.
            "TMPDIR": str(home / "tmp"),
        }
        (home / "tmp").mkdir(parents=True)

    @contextlib.contextmanager
    def start(self, *arguments: str) -> Iterator[Command]:
        process = subprocess.Popen(
            [sys.executable, "-m", "shoppable.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.home,
        )
        command = Command(process, self.home)
        ear = threading.Thread(target=command.listen)
        ear.start()
        try:
            yield command
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            ear.join()
            if process.stdout is not None:
                process.stdout.close()
            if process.stderr is not None:
                process.stderr.close()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shoppable.cli", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.home,
            check=False,
            timeout=_LIMIT_S,
        )

    def processes(self) -> list[str]:
        """The processes that were started for this user and live, as command lines."""
        mark = f"TMPDIR={self.home / 'tmp'}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def assert_nothing_is_left(self) -> None:
        """Polls, since what is killed from outside needs a moment to be gone."""
        deadline_s = time.monotonic() + _GONE_LIMIT_S
        while (left := self.processes()) and time.monotonic() < deadline_s:
            threading.Event().wait(0.05)
        assert not left
        # The temporary folders and the shared memory go too.
        assert list((self.home / "tmp").glob("shoppable-*")) == []


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "home")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, inference: str) -> Iterator[Shop]:
    """A user whose services are up; their other commands find them."""
    shop = Shop(tmp_path_factory.mktemp("up") / "home")
    with shop.start("up", "--sample", "--port-base", "0", "--inference", inference) as command:
        command.wait_for_words("Ctrl-C")
        yield shop
        command.process.send_signal(signal.SIGINT)
        status, output = command.finish()
        assert status == 130
        assert "grpcurl -plaintext 127.0.0.1:" in output
    shop.assert_nothing_is_left()


def test_demo_finds_products_writes_both_files_and_leaves_nothing(shop: Shop, inference: str) -> None:
    result = shop.run("demo", "--out", "found", "--inference", inference)
    assert result.returncode == 0, result.stderr
    answer = json.loads((shop.home / "found" / "result.json").read_text("utf-8"))
    titles = {thing["products"][0]["product"]["title"] for thing in answer["objects"] if thing.get("products")}
    assert {"Lumo 14 laptop, silver", "Barnaby bear, honey", "Meridian wall clock, walnut"} <= titles
    assert answer["summary"]["video"]["codec"] == "h264"
    page = (shop.home / "found" / "report.html").read_text("utf-8")
    assert "Barnaby bear, honey" in page
    assert "data:video/mp4;base64," in page
    assert "Barnaby bear, honey" in result.stdout
    assert str(Path("found") / "report.html") in result.stdout
    assert "Traceback" not in result.stderr
    shop.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("number", "status", "moment"),
    [(signal.SIGINT, 130, "looking at film.mp4"), (signal.SIGTERM, 143, "starting")],
)
def test_interrupted_demo_stops_everything(
    shop: Shop, inference: str, moment: str, number: signal.Signals, status: int
) -> None:
    with shop.start("demo", "--inference", inference) as command:
        command.wait_for_words(moment)
        command.process.send_signal(number)
        assert command.finish()[0] == status
    assert "Traceback" not in "".join(command.said)
    shop.assert_nothing_is_left()


def test_killed_command_takes_its_services_along(shop: Shop, inference: str) -> None:
    with shop.start("up", "--port-base", "0", "--inference", inference) as command:
        command.wait_for_words("Ctrl-C")
        assert len(shop.processes()) > 5
        command.process.kill()
        command.process.wait()
        deadline_s = time.monotonic() + _GONE_LIMIT_S
        while shop.processes() and time.monotonic() < deadline_s:
            threading.Event().wait(0.05)
        assert shop.processes() == []


def test_service_that_dies_is_restarted_at_its_address(shop: Shop, inference: str) -> None:
    with shop.start("up", "--port-base", "0", "--inference", inference) as command:
        command.wait_for_words("Ctrl-C")
        (pid,) = _pids_of(shop, "shoppable.decoder")
        os.kill(pid, signal.SIGKILL)
        command.wait_for_words("the decoder is back")
        result = shop.run("annotate", str(_samples() / "film.mp4"), "--end", "1", "--fps", "2")
        assert result.returncode == 0, result.stderr
        command.process.send_signal(signal.SIGINT)
        assert command.finish()[0] == 130
    shop.assert_nothing_is_left()


def test_annotate_json_can_be_piped_and_report_is_written(running: Shop) -> None:
    film = str(_samples() / "film.mp4")
    result = running.run("annotate", film, "--catalog", "sample", "--json", "--end", "2", "--report", "r.html")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert any(thing.get("products") for thing in answer["objects"])
    assert all(float(thing["segments"][-1]["end"].rstrip("s")) <= 2.5 for thing in answer["objects"])
    assert "data:video/mp4" in (running.home / "r.html").read_text("utf-8")


def test_annotate_without_a_catalogue_finds_objects_without_products(running: Shop) -> None:
    result = running.run("annotate", (_samples() / "film.mp4").as_uri(), "--json", "--end", "1", "--no-thumbnails")
    assert result.returncode == 0, result.stderr
    objects = json.loads(result.stdout)["objects"]
    assert objects
    assert not any("products" in thing or "decision" in thing for thing in objects)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["annotate", "FILM", "--catalog", "nowhere"], "catalogs/nowhere"),
        (["annotate", "file:///etc/passwd"], "permission denied"),
        (["annotate", "NO-FILM"], "NOT_A_VIDEO"),
        (["catalog", "get", "nowhere"], "catalogs/nowhere"),
        (["catalog", "search", "NO-FILM", "--catalog", "sample"], "not a JPEG"),
    ],
)
def test_failure_is_one_readable_error(running: Shop, arguments: Sequence[str], words: str) -> None:
    (running.home / "notes.mp4").write_text("no film at all")
    files = {"FILM": str(_samples() / "film.mp4"), "NO-FILM": "notes.mp4"}
    result = running.run(*(files.get(one, one) for one in arguments))
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_import_lists_broken_rows_and_keeps_the_good_ones(running: Shop) -> None:
    shutil.copy(_samples() / "catalog" / "mug-teal-1.jpg", running.home / "mug.jpg")
    (running.home / "feed.csv").write_text(
        "product_id,title,price,images,attr.color\n"
        "good,A mug,12.50 EUR,mug.jpg,teal\n"
        "gone,Another,9 EUR,missing.jpg,\n"
        "cheap,Third,cheap,mug.jpg,\n"
        "b@d,Fourth,9 EUR,mug.jpg,\n"
    )
    (running.home / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with (running.home / "feed.csv").open("a") as feed:
        feed.write("torn,Fifth,9 EUR,broken.jpg,\n")
    result = running.run("catalog", "import", "feed.csv", "--catalog", "rows")
    assert result.returncode == 1
    assert "4 rows were not taken" in result.stderr
    listed = {
        line.split()[0]: line for line in result.stderr.splitlines() if line.split()[:1] and line.split()[0].isdecimal()
    }
    assert {"3", "4", "5", "6"} <= set(listed)
    assert "missing.jpg: no such file" in listed["3"]
    assert "price" in listed["4"]
    again = running.run("catalog", "import", "feed.csv", "--catalog", "rows")
    assert "1 product (1 as before)" in again.stderr
    stored = running.run("catalog", "get", "rows/good", "--json")
    product = json.loads(stored.stdout)
    assert product["price"] == {"currencyCode": "EUR", "units": "12", "nanos": 500000000}
    assert product["attributes"] == {"color": "teal"}


def test_catalogue_can_be_listed_searched_and_deleted(running: Shop) -> None:
    photo = str(_samples() / "catalog" / "teddy-honey-1.jpg")
    feed = str(_samples() / "catalog.jsonl")
    imported = running.run("catalog", "import", feed, "--catalog", "bears")
    assert imported.returncode == 0, imported.stderr
    listed = running.run("catalog", "list", "--json")
    names = [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    assert {"catalogs/bears", "catalogs/sample"} <= set(names)
    found = running.run("catalog", "search", photo, "--catalog", "bears", "--json")
    assert json.loads(found.stdout)["products"][0]["product"]["title"] == "Barnaby bear, honey"
    assert running.run("catalog", "delete", "bears/teddy-honey", "--yes").returncode == 0
    found = running.run("catalog", "search", photo, "--catalog", "bears", "--json")
    assert json.loads(found.stdout)["products"][0]["product"]["title"] != "Barnaby bear, honey"
    assert running.run("catalog", "delete", "bears", "--yes").returncode == 0
    gone = running.run("catalog", "get", "bears")
    assert gone.returncode == 1
    assert "catalogs/bears" in gone.stderr


def test_sample_catalogue_is_imported_into_a_fresh_home_by_itself(shop: Shop, inference: str) -> None:
    film = str(_samples() / "film.mp4")
    result = shop.run("annotate", film, "--catalog", "sample", "--end", "2", "--inference", inference)
    assert result.returncode == 0, result.stderr
    assert "importing it" in result.stderr
    assert "laptop" in result.stdout
    assert (shop.home / ".local" / "share" / "shoppable").is_dir()
    shop.assert_nothing_is_left()


def test_triton_that_cannot_run_is_told_in_one_sentence(shop: Shop, tmp_path: Path) -> None:
    # A module that hides the wheel, as where it is not installed.
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'pytriton' else find(name, package)\n"
    )
    shop.environment["PYTHONPATH"] = str(hidden)
    result = shop.run("demo", "--inference", "triton")
    assert result.returncode == 1
    assert "pip install 'shoppable[local]'" in result.stderr
    assert "--inference onnxruntime" in result.stderr
    assert "Traceback" not in result.stderr
    shop.assert_nothing_is_left()


def test_second_interrupt_ends_at_once_and_leaves_nothing_either(shop: Shop, inference: str) -> None:
    with shop.start("up", "--port-base", "0", "--inference", inference) as command:
        command.wait_for_words("Ctrl-C")
        command.process.send_signal(signal.SIGINT)
        command.process.send_signal(signal.SIGTERM)
        assert command.finish()[0] in {130, 143}
    assert "Traceback" not in "".join(command.said)
    deadline_s = time.monotonic() + _GONE_LIMIT_S
    while shop.processes() and time.monotonic() < deadline_s:
        threading.Event().wait(0.05)
    assert shop.processes() == []


def test_service_that_cannot_start_is_named_with_the_end_of_its_log(shop: Shop, inference: str) -> None:
    shop.environment["SHOPPABLE_DETECTOR_TAXONOMY_FILE"] = "/nowhere.toml"
    result = shop.run("up", "--port-base", "0", "--inference", inference)
    assert result.returncode == 1
    assert "error: the detector did not start" in result.stderr
    assert "/nowhere.toml" in result.stderr
    assert "detector.log" in result.stderr
    assert "Traceback" not in result.stderr
    shop.assert_nothing_is_left()


def test_port_that_is_taken_is_told_before_anything_starts(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = shop.run("up", "--port-base", str(port))
    assert result.returncode == 1
    assert f"port {port}, meant for the orchestrator" in result.stderr
    assert "--port-base" in result.stderr
    shop.assert_nothing_is_left()


def _pids_of(shop: Shop, module: str) -> list[int]:
    mark = f"TMPDIR={shop.home / 'tmp'}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if mark in (entry / "environ").read_bytes().split(b"\0") and command[1:3] == [b"-m", module.encode()]:
                found.append(int(entry.name))
    return found


def _samples() -> Path:
    return Path(__file__).parents[2] / "samples"
