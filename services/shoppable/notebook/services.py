"""The local services of this process: started once, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from shoppable.cli import annotating, catalog_import
from shoppable.cli.console import Reporter
from shoppable.cli.failures import CommandError
from shoppable.cli.options import Inference
from shoppable.cli.services import LocalOptions, started
from shoppable.client import OrchestratorClient, open_channel
from shoppable.local.data_folder import DataFolderError, Endpoints, discover
from shoppable.notebook.annotation import Annotation
from shoppable.v1 import orchestrator_pb2

_STOP_LIMIT_S = 60
ResultT = TypeVar("ResultT")


class _Background:
    """An event loop in a thread, and the suites that live on it: a notebook's own loop stays the notebook's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="shoppable", daemon=True).start()
        self._suites: dict[Path, Any] = {}  # contexts of running suites, by their data folders
        self._endpoints: dict[Path, Endpoints] = {}
        self._starting = asyncio.Lock()
        atexit.register(self._stop)

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run work on the loop and wait for it; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def reach(self, options: LocalOptions, reporter: Reporter) -> Endpoints:
        """Return where services with these data are: ours, others that run, or new ones."""
        folder = options.data_folder.resolve()
        async with self._starting:
            if folder in self._endpoints:
                return self._endpoints[folder]
            try:
                running = discover(folder)
            except DataFolderError as error:
                raise CommandError(str(error)) from error
            if running is not None and running.orchestrator and running.decoder:
                return running  # not kept: it may have ended by the next call
            context = started(options, reporter)
            suite = await context.__aenter__()
            self._suites[folder], self._endpoints[folder] = context, suite.endpoints
            return suite.endpoints

    def _stop(self) -> None:
        async def stop() -> None:
            await asyncio.gather(*(context.__aexit__(None, None, None) for context in self._suites.values()))

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(_STOP_LIMIT_S)


_lock = threading.Lock()
_background: _Background | None = None


def _get_background() -> _Background:
    global _background
    with _lock:
        if _background is None:
            _background = _Background()
        return _background


def annotate(
    source: Path | str,
    catalog: str,
    options: orchestrator_pb2.AnnotateOptions | None,
    *,
    data: Path | None,
    inference: str,
) -> Annotation:
    """Annotate a video with local services; see `shoppable.notebook.annotate`."""
    background = _get_background()
    local = LocalOptions(inference=Inference(inference), data=data)
    wanted = orchestrator_pb2.AnnotateOptions()
    if options is not None:
        wanted.CopyFrom(options)
    if catalog:
        wanted.catalog = f"catalogs/{catalog}"
    reporter = Reporter()

    async def work() -> orchestrator_pb2.AnnotateVideoResponse:
        endpoints = await background.reach(local, reporter)
        if catalog == "sample":
            await catalog_import.import_sample_if_missing(endpoints.matcher, reporter)
        async with open_channel(endpoints.orchestrator) as channel:
            return await annotating.annotate(OrchestratorClient(channel), source, wanted, reporter)

    def decoder() -> str:
        return background.run(background.reach(local, reporter)).decoder

    return Annotation(background.run(work()), source, decoder)
