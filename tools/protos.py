"""Checks the protos and generates code and documents from them: `python tools/protos.py --help`.

The messages that other projects publish (google.api, google.rpc, google.type) come from googleapis-common-protos, so
buf reads a descriptor set made by protoc and needs no module registry.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from generating import OUTPUTS, PACKAGE, PROTOS, ROOT, Output, describe


def generate() -> None:
    """Write all that is generated; what the machine has no tools for is left as it is, with a word."""
    for output in OUTPUTS:
        obstacle = output.obstacle()
        if obstacle:
            print(f"{output.name}: not generated: {obstacle}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            output.make(Path(scratch))
            for path in output.paths:
                _replace(Path(scratch) / path, ROOT / path)
    # In a process of its own: the messages may have been generated just now.
    script = "import golden_messages, pathlib; golden_messages.write_missing(pathlib.Path.cwd())"
    paths = os.pathsep.join((str(ROOT / "tools"), str(ROOT / "services")))
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, check=True)


def _replace(fresh: Path, target: Path) -> None:
    if fresh.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(fresh, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fresh, target)


def check_fresh() -> None:
    """Exit with an error if what is checked in is not what the protos give."""
    stale: list[str] = []
    for output in OUTPUTS:
        obstacle = output.obstacle()
        if obstacle:
            print(f"{output.name}: freshness not checked: {obstacle}")
        else:
            stale += _stale(output)
    if stale:
        sys.exit(f"stale generated files: {', '.join(stale)}; run `make gen` and commit the result")


def _stale(output: Output) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        output.make(Path(scratch))
        fresh, present = _contents(Path(scratch), output.paths), _contents(ROOT, output.paths)
    return sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))


def _contents(root: Path, paths: Sequence[str]) -> dict[str, bytes]:
    files = [file for path in paths for file in ((root / path).rglob("*") if (root / path).is_dir() else [root / path])]
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }


def buf(*arguments: str) -> None:
    """Run buf on the package; exit with its status if it finds something."""
    command = ["buf", *arguments, "--config", str(PROTOS / "buf.yaml"), "--path", str(PACKAGE)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(f"buf {arguments[0]} found the problems above")


def git(*arguments: str) -> str:
    """Run git in the checkout and return what it prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()


def baseline() -> str:
    """Return the revision to stay compatible with.

    The last tag; or else where this branch left main; or else, on main itself, the protos' previous commit.
    """
    tag = git("describe", "--tags", "--abbrev=0")
    if tag:
        return tag
    for main in ("origin/main", "main"):
        fork = git("merge-base", "HEAD", main)
        if fork and fork != git("rev-parse", "HEAD"):
            return fork
    edited = git("status", "--porcelain", "--", "protos/*.proto")
    commits = git("log", "--format=%H", "-2", "--", "protos/*.proto").split()
    return commits[0] if edited and commits else (commits[1] if len(commits) > 1 else "")


def check_compatible(scratch: Path, revision: str) -> None:
    """Exit with an error if a client of the revision would break."""
    if not revision:
        print("no earlier version of the protos: nothing to stay compatible with")
        return
    archive = subprocess.run(["git", "archive", revision, "protos"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(scratch)], input=archive, check=True)
    new, old = describe(PROTOS, scratch / "new.binpb"), describe(scratch / "protos", scratch / "old.binpb")
    buf("breaking", str(new), "--against", str(old))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the verbs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("generate", "check"), help="write all that is generated, or lint and check it")
    parser.add_argument("--against", metavar="REVISION", help="what to stay compatible with; default: see `baseline`")
    options = parser.parse_args(arguments)
    # buf and protoc's plugins are installed beside the interpreter, which need not be on the path.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if options.verb == "generate":
        generate()
        return
    with tempfile.TemporaryDirectory() as scratch:
        buf("lint", str(describe(PROTOS, Path(scratch) / "protos.binpb")))
        check_compatible(Path(scratch), options.against or baseline())
    check_fresh()
    print("protos: lint clean, compatible, generated code fresh")


if __name__ == "__main__":
    main()
