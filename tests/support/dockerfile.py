"""Reads deploy/Dockerfile, and does in a folder what it does in an image, as far as that goes without a container.

It knows the instructions that the file uses, and fails on others rather than pass over them.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_IGNORED = {"EXPOSE", "STOPSIGNAL", "ARG"}


@dataclass
class Stage:
    """What one FROM begins."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)  # instruction and the rest of its line

    def last(self, instruction: str) -> str | None:
        return next((rest for name, rest in reversed(self.steps) if name == instruction), None)


def read_stages(path: Path) -> dict[str, Stage]:
    """Return the stages by name, in order."""
    stages: dict[str, Stage] = {}
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    current: Stage | None = None
    for line in filter(None, map(str.strip, text.replace("\\\n", " ").splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name] = Stage(name, base)
        elif current is not None:
            current.steps.append((instruction, " ".join(rest.split())))
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """Return the stages that a target is made of, the first one first."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


class Replay:
    """Builds a target in a folder, which stands for the root of the file system.

    Copies from the checkout lie under it. The environment of /opt/venv is a real one, made and filled by the target's
    own commands.
    """

    def __init__(self, stages: dict[str, Stage], checkout: Path, root: Path) -> None:
        self._stages = stages
        self._checkout = checkout
        self._root = root
        self.environment: dict[str, str] = {}
        self.command: list[str] = []
        self.user = ""

    def build(self, target: str, *, install: bool = True) -> None:
        """Do what the target's stages do; without `install`, leave out the RUN and COPY --from of packages."""
        work = Path("/")
        for stage in lineage(self._stages, target):
            for instruction, rest in stage.steps:
                if instruction == "ENV":
                    self.environment |= dict(part.split("=", 1) for part in rest.split())
                elif instruction == "WORKDIR":
                    work = Path(rest)
                    self._inside(work).mkdir(parents=True, exist_ok=True)
                elif instruction == "COPY":
                    self._copy(rest.split(), work, install=install)
                elif instruction == "RUN" and install:
                    subprocess.run(self._moved(json.loads(rest)), cwd=self._inside(work), check=True)
                elif instruction == "USER":
                    self.user = rest
                elif instruction in ("ENTRYPOINT", "CMD"):
                    self.command = json.loads(rest)
                elif instruction not in _IGNORED and instruction != "RUN":
                    raise ValueError(f"the replay does not know {instruction}")

    def started(self, *flags: str, **environment: str) -> subprocess.Popen[str]:
        """Run the image's command in an environment that has nothing of ours but what the image sets."""
        own = {name: str(self._inside(Path(value))) if value.startswith("/") else value
               for name, value in self.environment.items()}  # fmt: skip
        return subprocess.Popen(
            [*self._moved(self.command), *flags],
            env={"PATH": "/usr/bin:/bin", **own, **environment},
            cwd=self._inside(Path("/tmp")),
            stderr=subprocess.PIPE,
            text=True,
        )

    def _copy(self, words: list[str], work: Path, *, install: bool) -> None:
        if words[0].startswith("--from="):
            if install:
                Replay(self._stages, self._checkout, self._root).build(words[0].removeprefix("--from="))
            return
        *sources, target = words
        for source in sources:
            origin, goal = self._checkout / source, self._inside(work / target)
            if origin.is_dir():
                shutil.copytree(origin, goal, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                goal = goal / origin.name if target.endswith("/") else goal
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, goal)

    def _moved(self, command: list[str]) -> list[str]:
        if command[0] == "python":
            command = [sys.executable, *command[1:]]
        return [str(self._inside(Path(word))) if word.startswith("/opt/") else word for word in command]

    def _inside(self, path: Path) -> Path:
        return self._root / path.relative_to("/")
