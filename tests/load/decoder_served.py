"""The decoder service in a process of its own, for its benchmark: called, and watched for what it takes."""

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from decoder_alone import SIDE, Run

from shoppable.client import open_channel
from shoppable.decoder.server import build
from shoppable.decoder.settings import DecoderSettings
from shoppable.decoder.workers.devices import Wish
from shoppable.runtime.logs import configure_logs
from shoppable.runtime.server import serving
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def serve(films: Sequence[str], hardware: Wish, pipe: Connection) -> None:
    """Serve in a process of its own until the pipe closes."""

    async def main() -> None:
        roots = tuple({Path(film).parent for film in films})
        settings = DecoderSettings(port=0, file_roots=roots, hardware=hardware, log_level="warning")
        configure_logs(settings)
        async with serving(settings, build) as (_, address):
            pipe.send(address)
            with contextlib.suppress(EOFError):
                await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


def _children(process: int) -> list[int]:
    threads = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def _cpu_s(process: int) -> tuple[float, float]:
    """Return the seconds of CPU of a process, and of its children that have ended."""
    user, system, ended_user, ended_system = map(
        int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
    )
    return (user + system) / _TICKS_A_SECOND, (ended_user + ended_system) / _TICKS_A_SECOND


def machine_cpu_s() -> float:
    """Return the seconds for which this machine's cores have worked since it started, for whomever."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS_A_SECOND


def _memory_mb(process: int) -> float:
    """Return the memory of a process and all below it; what several share counts once."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        children = _children(process)
    except OSError:  # it has just ended
        return 0.0
    return int(rollup.split("Pss:")[1].split()[0]) / 1024 + sum(map(_memory_mb, children))


@dataclass
class Service:
    """A server in a process of its own."""

    films: Sequence[Path]
    hardware: Wish = "none"

    async def __aenter__(self) -> "Service":
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        films = [str(film) for film in self.films]
        self._process = context.Process(target=serve, args=(films, self.hardware, theirs))
        self._process.start()
        theirs.close()
        self._channel = open_channel(await asyncio.to_thread(self._pipe.recv))
        self._stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(await self._channel.__aenter__())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.__aexit__(None, None, None)
        self._pipe.close()
        await asyncio.to_thread(self._process.join)

    async def decode(self, film: Path, sampling: common_pb2.FrameSampling) -> Run:
        """Return what a call brings, and how long it takes."""
        source = common_pb2.VideoSource(uri=film.as_uri())
        config = frame_decoder_pb2.DecodeFramesConfig(source=source, sampling=sampling, longest_side=SIDE)

        async def requests():  # type: ignore[no-untyped-def]
            yield frame_decoder_pb2.DecodeFramesRequest(config=config)

        started, cpu_started, frames = time.perf_counter(), time.process_time(), []
        async for response in self._stub.DecodeFrames(requests()):
            if response.HasField("frame"):
                frame = response.frame
                frames.append((frame.time.ToMilliseconds(), frame.image.width, frame.image.height))
        return Run(time.perf_counter() - started, time.process_time() - cpu_started, frames)

    def cpu_s(self) -> tuple[float, float]:
        """Return the seconds of CPU that the service, and all workers that have ended, have taken until now."""
        (fork_server,) = _children(self._process.pid or 0)
        return _cpu_s(self._process.pid or 0)[0], _cpu_s(fork_server)[1]

    async def memory_mb(self) -> float:
        """Return the memory of the server and its workers."""
        return await asyncio.to_thread(_memory_mb, self._process.pid or 0)

    async def peak_mb(self, call: "asyncio.Task[Run]") -> float:
        """Return the most memory that the server and its workers are seen to have during a call."""
        peak = 0.0
        while not call.done():
            peak = max(peak, await self.memory_mb())
            await asyncio.sleep(0.05)
        return peak
