"""Which services a command talks to: those that its flags name, those that already run here, or new local ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shoppable.cli.console import Reporter
from shoppable.cli.failures import CommandError
from shoppable.cli.options import Inference
from shoppable.local import locations
from shoppable.local.data_folder import DataFolderError, Endpoints, discover
from shoppable.local.suite import SERVICES, LocalSuite, SuiteError, SuiteOptions
from shoppable.local.suite import Inference as SuiteInference

# What each command needs of a local suite; the catalogue's owner works alone.
ALL = SERVICES
CATALOG_ONLY = ("matcher",)


@dataclass(frozen=True)
class LocalOptions:
    """How local services are to run, as far as flags say."""

    inference: Inference = Inference.TRITON
    data: Path | None = None
    models: Path | None = None
    port_base: int = 0
    file_roots: Sequence[Path] = field(default=())

    @property
    def data_folder(self) -> Path:
        """The folder of the catalogues."""
        return self.data or locations.data_home()


@contextlib.asynccontextmanager
async def started(
    options: LocalOptions, reporter: Reporter, *, services: Sequence[str] = ALL
) -> AsyncIterator[LocalSuite]:
    """Run local services while inside, and say what happens."""
    suite_options = SuiteOptions(
        data_folder=options.data_folder,
        inference=SuiteInference(options.inference.value),
        services=services,
        port_base=options.port_base,
        file_roots=options.file_roots,
        model_repository=options.models or locations.MODEL_REPOSITORY,
    )
    if options.inference is Inference.ONNXRUNTIME:
        reporter.note("ONNX Runtime stands in for Triton, as asked for with --inference onnxruntime.", style="yellow")
    begun_s = time.monotonic()
    running = False
    with contextlib.ExitStack() as stack:
        spinner = stack.enter_context(reporter.spinner("starting the services"))

        def tell(event: str) -> None:
            if event == "stopping":
                return  # the command says so when it is done
            if running:
                reporter.note(event, style="yellow")
            else:
                spinner.update(text=event)

        suite = LocalSuite(suite_options, on_event=tell)
        try:
            await suite.__aenter__()
        except SuiteError as error:
            message, *details = str(error).splitlines()
            raise CommandError(message, details=details) from error
        stack.close()
        running = True
        inference = "ONNX Runtime" if options.inference is Inference.ONNXRUNTIME else "Triton"
        names = "the four services" if len(services) == len(ALL) else f"the {' and the '.join(services)}"
        reporter.done(f"{inference} and {names} are up", seconds=time.monotonic() - begun_s)
        try:
            yield suite
        finally:
            await suite.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def reach(
    *,
    server: str | None = None,
    matcher: str | None = None,
    options: LocalOptions,
    reporter: Reporter,
    services: Sequence[str] = ALL,
) -> AsyncIterator[Endpoints]:
    """Yield where to call: the named services, those that run with the same data folder, or new ones."""
    if server or matcher:
        yield Endpoints(orchestrator=server or "", matcher=matcher or "")
        return
    try:
        running = discover(options.data_folder)
    except DataFolderError as error:
        raise CommandError(str(error)) from error
    if running is not None:
        missing = [name for name in services if not getattr(running, name)]
        if missing:
            raise CommandError(
                f"another command (process {running.pid}) works with {options.data_folder} and runs no {missing[0]}: "
                "try again when it has ended"
            )
        reporter.note(f"Using the services that run here already (process {running.pid}).", style="dim")
        yield running
        return
    async with started(options, reporter, services=services) as suite:
        yield suite.endpoints
