"""All that is generated from the protos, one `Output` each: Python, Go and TypeScript code, service configs, a page."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import google.rpc
import grpc_tools
import reference_page
import sync_client
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("shoppable/v1")
INCLUDES = (
    Path(next(iter(google.rpc.__path__))).parent.parent,
    Path(next(iter(grpc_tools.__path__))) / "_proto",
)
HEADER = '"""Generated from protos/ by `make gen`; never edited."""\n'
GO_PLUGINS = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
}
GO_MODULE = "shoppable.dev/client"
# protobuf-es comes with Google's well-known types and no others; Go and Java have packages of these.
TYPESCRIPT_EXTRAS = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "google/type/money.proto",
)
CONFIG_COPIES = (
    "services/shoppable/client/service_config.json",
    "clients/go/service_config.json",
    "clients/typescript/src/gen/service_config.ts",
    "clients/java/src/main/resources/dev/shoppable/client/service_config.json",
)


@dataclass(frozen=True)
class Output:
    """Something that is generated and checked in."""

    name: str
    paths: Sequence[str]  # the files and folders that are wholly its own, relative to the checkout
    make: Callable[[Path], None]  # writes them below a folder that stands for the checkout
    obstacle: Callable[[], str] = str  # why it cannot be made on this machine; empty if it can


def run_protoc(protos: Path, *outputs: str, extras: Sequence[str] = ()) -> None:
    """Run protoc over the package's files below `protos`, which is an import root."""
    files = sorted(str(path.relative_to(protos)) for path in (protos / PACKAGE).glob("*.proto"))
    includes = [f"-I{folder}" for folder in (protos, *INCLUDES)]
    if protoc.main(["protoc", *includes, *outputs, *files, *extras]) != 0:
        sys.exit("protoc refused the protos; its messages are above")


def describe(protos: Path, target: Path) -> Path:
    """Write the descriptor set of the protos below `protos`, with comments, and return its path."""
    run_protoc(protos, "--include_imports", "--include_source_info", f"--descriptor_set_out={target}")
    return target


def merged_service_config() -> dict[str, object]:
    """Return the service configs of all protos as one, for a channel that may lead to any service.

    Raises:
        ValueError: They differ in what a channel can have only once.
    """
    configs = [json.loads(path.read_text()) for path in sorted((PROTOS / PACKAGE).glob("*.service_config.json"))]
    methods = list(itertools.chain.from_iterable(config.pop("methodConfig") for config in configs))
    if any(config != configs[0] for config in configs):
        raise ValueError("the service configs must agree in all but methodConfig: a channel has one balancing policy")
    return configs[0] | {"methodConfig": methods}


def _make_python(root: Path) -> None:
    into = root / "services"
    into.mkdir(parents=True, exist_ok=True)
    run_protoc(
        PROTOS,
        *(f"--{plugin}_out={into}" for plugin in ("python", "grpc_python")),
        *(f"--{plugin}_out=quiet:{into}" for plugin in ("mypy", "mypy_grpc")),
    )
    (into / PACKAGE / "__init__.py").write_text(HEADER)


def _make_service_configs(root: Path) -> None:
    text = json.dumps(merged_service_config(), indent=2) + "\n"
    for copy in CONFIG_COPIES:
        path = root / copy
        path.parent.mkdir(parents=True, exist_ok=True)
        typescript = (
            f"// Generated from protos/ by `make gen`; never edited.\nexport const serviceConfig = {text[:-1]};\n"
        )
        path.write_text(typescript if path.suffix == ".ts" else text)


def _make_reference(root: Path) -> None:
    target = root / "protos" / "README.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".binpb")
    try:
        target.write_text(reference_page.render(describe(PROTOS, scratch).read_bytes(), merged_service_config()))
    finally:
        scratch.unlink(missing_ok=True)


def _make_go(root: Path) -> None:
    into = root / "clients" / "go"
    into.mkdir(parents=True, exist_ok=True)
    plugins = [f"--plugin={name}={_go_plugin_folder() / name}" for name in GO_PLUGINS]
    run_protoc(
        PROTOS,
        *plugins,
        f"--go_out=module={GO_MODULE}:{into}",
        f"--go-grpc_out=module={GO_MODULE}:{into}",
    )


def _go_obstacle() -> str:
    if shutil.which("go") is None:
        return "Go is not installed"
    folder = _go_plugin_folder()
    for name, package in GO_PLUGINS.items():
        if not (folder / name).exists():
            done = _tool(["go", "install", package], ROOT, GOBIN=str(folder))
            if done.returncode:
                return f"{package} cannot be installed: {done.stderr.strip()[-300:]}"
    return ""


def _go_plugin_folder() -> Path:
    versions = "-".join(package.rpartition("@")[2] for package in GO_PLUGINS.values())
    return ROOT / ".build" / f"protoc-gen-go-{versions}"


def _make_typescript(root: Path) -> None:
    into = root / "clients" / "typescript" / "src" / "gen"
    into.mkdir(parents=True, exist_ok=True)
    plugin = f"--plugin=protoc-gen-es={_typescript_plugin()}"
    options = "target=ts,import_extension=js"
    run_protoc(PROTOS, plugin, f"--es_out={options}:{into}", extras=TYPESCRIPT_EXTRAS)


def _typescript_obstacle() -> str:
    if shutil.which("npm") is None:
        return "npm is not installed"
    if not _typescript_plugin().exists():
        done = _tool(["npm", "ci", "--ignore-scripts"], ROOT / "clients" / "typescript")
        if done.returncode:
            return f"npm ci failed in clients/typescript: {done.stderr.strip()[-300:]}"
    return ""


def _typescript_plugin() -> Path:
    return ROOT / "clients" / "typescript" / "node_modules" / ".bin" / "protoc-gen-es"


def _tool(command: Sequence[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, check=False, capture_output=True, text=True
    )


OUTPUTS = (
    Output("Python", [f"services/{PACKAGE}"], _make_python),
    Output("service configs", CONFIG_COPIES, _make_service_configs),
    Output("reference page", ["protos/README.md"], _make_reference),
    Output("sync client", sync_client.PATHS, sync_client.make),
    Output("Go", ["clients/go/shoppablev1"], _make_go, _go_obstacle),
    Output(
        "TypeScript",
        ["clients/typescript/src/gen/shoppable", "clients/typescript/src/gen/google"],
        _make_typescript,
        _typescript_obstacle,
    ),
)
