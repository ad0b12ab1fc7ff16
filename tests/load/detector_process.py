"""The object detector as a process of its own, as the benchmarks start it."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from shoppable.local.ports import ReservedPort
from shoppable.local.service_process import ServicePolicy, ServiceProcess


@contextlib.asynccontextmanager
async def detector_process(*arguments: str) -> AsyncIterator[ServiceProcess]:
    """Run a detector with these flags while inside; it is SERVING."""
    with tempfile.TemporaryDirectory(prefix="shoppable-bench-") as folder:
        service = ServiceProcess(
            "detector",
            arguments=arguments,
            port=ReservedPort(),
            log_path=Path(folder) / "detector.log",
            work_folder=Path(folder) / "work",
            policy=ServicePolicy(),
            on_event=lambda _: None,
            on_failure=lambda _: None,
        )
        try:
            await service.start()
            yield service
        finally:
            await service.stop()
