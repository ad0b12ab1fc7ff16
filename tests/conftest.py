"""What tests of several services share: the sample film's folder, the shared test data, one real Triton."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_STOP_LIMIT_S = 30


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Undo that a test asked for all of the log: what gRPC tells of itself, all tests after it would pay for."""
    yield
    if logging.root.level < logging.INFO:
        logging.root.setLevel(logging.INFO)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the sample film, its catalogue and its ground truth."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data that is not part of the repository; skips where there is none."""
    folder = Path(os.environ.get("SHOPPABLE_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs test data in {folder}, or in the folder that SHOPPABLE_TEST_DATA names")
    return folder


@pytest.fixture(scope="session")
def triton_endpoint() -> Iterator[str]:
    """Host and port of a real Triton with all models of `deploy/triton`, one for the whole session.

    It lives in a thread with an event loop of its own, so that tests on any loop can share it. Tests must leave it
    running and healthy. Skips where Triton cannot run, with the reason.
    """
    from shoppable.local.triton import TritonServer
    from shoppable.local.triton_requirements import TritonRequirementError

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="triton", daemon=True)
    thread.start()
    try:
        starting = TritonServer.start(repository=ROOT / "deploy" / "triton" / "models")
        try:
            server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        except TritonRequirementError as error:
            pytest.skip(str(error))
        try:
            yield server.grpc_endpoint
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(_STOP_LIMIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
