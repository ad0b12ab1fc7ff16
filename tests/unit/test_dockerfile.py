"""The images, judged without an engine: what they copy is there, is enough, and runs as nobody, without a shell."""

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from shoppable.cli.serve import SERVICES
from support.dockerfile import Replay, lineage, read_stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
STAGES = read_stages(DOCKERFILE)
# Starts the service's module with every package hidden that its lock does not install.
HIDING = """
import importlib.abc, importlib.util, json, sys
hidden = frozenset(json.loads(sys.argv.pop(1)))
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import shoppable, runpy
assert shoppable.__file__.startswith(sys.argv.pop(1)), shoppable.__file__
name = sys.argv.pop(1)
importlib.import_module(f"shoppable.{name}.server")
sys.argv[1:] = ["--help"]
runpy.run_module(f"shoppable.{name}", run_name="__main__")
"""


def locked(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {match[1].lower().replace("_", "-") for line in lines if (match := re.match(r"([\w.-]+)==", line))}


def test_hadolint_has_nothing_to_say():
    built = ROOT / ".build" / "hadolint" / "bin" / "hadolint"
    hadolint = str(built) if built.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint: `make deploy-tools` fetches it")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "info", str(DOCKERFILE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_an_image_that_runs_it_as_nobody_without_a_shell(service: str):
    steps = [step for stage in lineage(STAGES, service) for step in stage.steps]
    assert all(rest.startswith("[") for name, rest in steps if name in ("RUN", "ENTRYPOINT", "CMD"))
    (user,) = [rest for name, rest in steps if name == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    command = json.loads(STAGES[service].last("ENTRYPOINT") or "[]")
    assert command == ["/opt/venv/bin/python", "-m", f"shoppable.{service}"]
    builder = STAGES[f"{service}-builder"]
    assert f"requirements/{service}.txt" in (builder.last("COPY") or "")
    assert "--require-hashes" in (builder.last("RUN") or "")


def test_all_bases_are_pinned():
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE))
    for stage in STAGES.values():
        image = arguments.get(stage.base.strip("${}"), stage.base)
        assert stage.base in STAGES or re.search(r":\d+\.\d+", image), stage.base


def test_all_that_is_copied_goes_to_the_builder():
    """A file that .dockerignore holds back would be missed only where an engine runs."""
    allowed = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for stage in STAGES.values():
        for name, rest in stage.steps:
            words = rest.split()
            if name != "COPY" or words[0].startswith("--from="):
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                path = Path(source)
                above = [path, *path.parents]
                assert any(parent.match(pattern) for parent in above for pattern in allowed), source


@pytest.mark.parametrize("service", SERVICES)
def test_what_an_image_holds_is_enough_to_start_its_service(service: str, tmp_path: Path):
    replay = Replay(STAGES, ROOT, tmp_path)
    replay.build(service, install=False)
    installed = locked(service)
    owners = metadata.packages_distributions()
    hidden = sorted(
        package
        for package, names in owners.items()
        if not installed & {name.lower().replace("_", "-") for name in names} and package not in ("shoppable", "google")
    )
    library = str(tmp_path / "opt" / "shoppable")
    done = subprocess.run(
        [sys.executable, "-c", HIDING, json.dumps(hidden), library, service],
        env={"PYTHONPATH": library, "PATH": "/usr/bin:/bin"}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--tls-certificate-file" in done.stdout
