"""`shoppable models`: which models Triton has, and loading, rolling and unloading them while the services run.

Triton must run with `--model-control-mode=explicit`. The services notice by themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from shoppable.runtime.triton_connection import TritonClient

app = typer.Typer(
    help="Load, roll and unload models on Triton while the services run.\n\nTriton's address, its certificates and "
    "its key are those of the services: SHOPPABLE_TRITON_ENDPOINT and the others, or the flags.",
    no_args_is_help=True,
)
_TIMEOUT_S = 10.0
# An engine may have to be built for a GPU.
_LOAD_TIMEOUT_S = 1800.0

EndpointOption = Annotated[
    str | None, typer.Option("--triton-endpoint", metavar="HOST:PORT", help="Triton's gRPC address.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--triton-key", metavar="NAME=VALUE", help="The key, where Triton restricts its model repository."),
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name on Triton.")]


@app.command("list")
def list_models(endpoint: EndpointOption = None, key: KeyOption = None) -> None:
    """List what is in Triton's model repository: versions, states, and why one did not load."""
    from rich.table import Table

    from shoppable.cli import running
    from shoppable.cli.console import make_console, plain

    async def work() -> None:
        async with _triton(endpoint, key) as (client, headers):
            index = await client.get_model_repository_index(headers=headers, client_timeout=_TIMEOUT_S)
        table = Table("model", "version", "state", "reason", box=None)
        for entry in sorted(index.models, key=lambda entry: (entry.name, entry.version)):
            table.add_row(*map(plain, (entry.name, entry.version, entry.state.lower(), entry.reason)))
        make_console().print(table)

    running.run(work())


@app.command()
def load(model: ModelArgument, endpoint: EndpointOption = None, key: KeyOption = None) -> None:
    """Load a model, or what is new of one: another version in its folder, another configuration.

    A version that was serving goes on until the new one can, and for good if the new one fails.
    """
    from shoppable.cli import running
    from shoppable.cli.console import make_console, plain

    async def work() -> None:
        async with _triton(endpoint, key) as (client, headers):
            await client.load_model(model, headers=headers, client_timeout=_LOAD_TIMEOUT_S)
            metadata = await client.get_model_metadata(model, client_timeout=_TIMEOUT_S)
        versions = ", ".join(metadata.versions)
        make_console(stderr=True).print(plain(f"{model} is loaded, version {versions}"))

    running.run(work())


@app.command()
def unload(model: ModelArgument, endpoint: EndpointOption = None, key: KeyOption = None) -> None:
    """Unload a model; what is being computed is finished."""
    from shoppable.cli import running
    from shoppable.cli.console import make_console, plain

    async def work() -> None:
        async with _triton(endpoint, key) as (client, headers):
            await client.unload_model(model, headers=headers, client_timeout=_TIMEOUT_S)
        make_console(stderr=True).print(plain(f"{model} is unloaded"))

    running.run(work())


@contextlib.asynccontextmanager
async def _triton(endpoint: str | None, key: str | None) -> AsyncIterator[tuple[TritonClient, dict[str, str]]]:
    """Connect, and turn what Triton says into an error of a command."""
    from shoppable.cli.failures import CommandError

    try:
        from pydantic import ValidationError
        from tritonclient.utils import InferenceServerException

        from shoppable.runtime.triton_connection import TritonSettings, connect
    except ModuleNotFoundError as error:
        raise CommandError(f"{error.name} is not installed; run pip install 'shoppable[detector]'") from error
    given: dict[str, Any] = {"triton_endpoint": endpoint, "triton_key": key, "triton_shared_memory": "off"}
    try:
        settings = TritonSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise CommandError("; ".join(str(item["msg"]) for item in error.errors()), exit_code=2) from error
    async with connect(settings) as client:
        try:
            yield client, settings.triton_headers()
        except InferenceServerException as error:
            raise CommandError(f"Triton at {settings.triton_endpoint}: {error.message()}") from error
