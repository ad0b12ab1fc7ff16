"""A product matcher in a process of its own, which can be killed and started again on the same folder."""

import asyncio
import secrets
import signal
import sys
from pathlib import Path
from typing import Self

_LIMIT_S = 30


class MatcherProcess:
    """A running matcher with an embedded index."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process, self.address = process, address

    @classmethod
    async def start(cls, folder: Path, triton_endpoint: str) -> Self:
        """Start it on a free port, with its catalogues in `folder` and its log beside it.

        Raises:
            AssertionError: It ended; the text is its log.
        """
        stem = folder.parent / f"{folder.name}-{secrets.token_hex(4)}"
        address_file, log = stem.with_suffix(".address"), stem.with_suffix(".log")
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "shoppable.matcher", "--port", "0", "--data-dir", str(folder),
                "--triton-endpoint", triton_endpoint, "--address-file", str(address_file),
                stderr=output,
            )  # fmt: skip
        async with asyncio.timeout(_LIMIT_S):
            while not address_file.exists():
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        return cls(process, address_file.read_text())

    async def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """End it in order, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), _LIMIT_S)
        return self.process.returncode or 0
