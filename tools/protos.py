"""Checks the protos and generates the Python code from them: `python tools/protos.py --help`.

The messages that other projects publish (google.rpc, google.type) come from googleapis-common-protos, so buf reads
a descriptor set made by protoc and needs no module registry.
"""

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import google.rpc
import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("shoppable/v1")
GENERATED = ROOT / "services" / PACKAGE
INCLUDES = (
    Path(next(iter(google.rpc.__path__))).parent.parent,
    Path(next(iter(grpc_tools.__path__))) / "_proto",
)
HEADER = '"""Generated from protos/ by `make gen`; never edited."""\n'


def run_protoc(protos: Path, *outputs: str) -> None:
    """Run protoc over the package's files below `protos`, which is an import root."""
    files = sorted(str(path.relative_to(protos)) for path in (protos / PACKAGE).glob("*.proto"))
    includes = [f"-I{folder}" for folder in (protos, *INCLUDES)]
    if protoc.main(["protoc", *includes, *outputs, *files]) != 0:
        sys.exit("protoc refused the protos; its messages are above")


def describe(protos: Path, target: Path) -> Path:
    """Write the descriptor set of the protos below `protos`, with comments, and return its path."""
    run_protoc(protos, "--include_imports", "--include_source_info", f"--descriptor_set_out={target}")
    return target


def generate(into: Path) -> None:
    """Generate messages, stubs and their types below `into`, an import root."""
    into.mkdir(parents=True, exist_ok=True)
    run_protoc(
        PROTOS,
        *(f"--{plugin}_out={into}" for plugin in ("python", "grpc_python")),
        *(f"--{plugin}_out=quiet:{into}" for plugin in ("mypy", "mypy_grpc")),
    )
    (into / PACKAGE / "__init__.py").write_text(HEADER)


def check_fresh() -> None:
    """Exit with an error if the checked-in code is not what the protos give."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch) / PACKAGE
        names = {path.name for folder in (fresh, GENERATED) for path in folder.glob("*.py*")}
        _, differing, missing = filecmp.cmpfiles(fresh, GENERATED, sorted(names), shallow=False)
    if differing or missing:
        sys.exit(
            f"stale generated code: {', '.join(sorted(differing + missing))}; run `make gen` and commit the result"
        )


def buf(*arguments: str) -> None:
    """Run buf on the package; exit with its status if it finds something."""
    command = ["buf", *arguments, "--config", str(PROTOS / "buf.yaml"), "--path", str(PACKAGE)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(f"buf {arguments[0]} found the problems above")


def git(*arguments: str) -> str:
    """Run git in the checkout and return what it prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()


def baseline() -> str:
    """Return the revision to stay compatible with: the last tag, or else the protos' previous commit."""
    tag = git("describe", "--tags", "--abbrev=0")
    if tag:
        return tag
    edited = git("status", "--porcelain", "--", "protos")
    commits = git("log", "--format=%H", "-2", "--", "protos").split()
    return commits[0] if edited and commits else (commits[1] if len(commits) > 1 else "")


def check_compatible(scratch: Path) -> None:
    """Exit with an error if a client of the baseline would break."""
    revision = baseline()
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
    parser.add_argument("verb", choices=("generate", "check"), help="write the code, or lint and check all of it")
    verb = parser.parse_args(arguments).verb
    # buf and protoc's plugins are installed beside the interpreter, which need not be on the path.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if verb == "generate":
        generate(ROOT / "services")
        return
    with tempfile.TemporaryDirectory() as scratch:
        buf("lint", str(describe(PROTOS, Path(scratch) / "protos.binpb")))
        check_compatible(Path(scratch))
    check_fresh()
    print("protos: lint clean, compatible, generated code fresh")


if __name__ == "__main__":
    main()
