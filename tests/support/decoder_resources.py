"""What a decoder under test holds: media files, processes, and whether it lets go of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from support.decoder_calls import Decoder, running_decoder
from support.videos import Clip, encode


async def until(holds: Callable[[], bool], limit_s: float = 5) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends, f"still not so after {limit_s} s"
        await asyncio.sleep(0.005)


class OpenMedia:
    """Media files, temporary files and memory without a name that this process opens from now on."""

    def __init__(self) -> None:
        self._before = set(self._all())  # other tests, and pytest itself, hold temporary files as well

    def __call__(self) -> list[str]:
        """Return those that are open."""
        return [target for target in self._all() if target not in self._before]

    @staticmethod
    def _all() -> list[str]:
        found = []
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(descriptor.readlink()))
        return [target for target in found if target.endswith((".mp4", " (deleted)"))]


@contextlib.asynccontextmanager
async def tidy_decoder(*roots: Path, **settings: Any) -> AsyncIterator[Decoder]:
    """Serve a decoder which, whatever a test does, still serves at the end and holds no file."""
    open_media = OpenMedia()
    async with running_decoder(*roots, **settings) as decoder:
        yield decoder
        assert len((await decoder.decode(encode(Clip()))).frames) == 15
        await until(lambda: not open_media())
