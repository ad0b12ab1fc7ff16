"""Two replicas behind one name: one is stopped or killed while they work, and callers do not notice."""

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shoppable.client import DecoderClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, frame_decoder_pb2

CALLERS = 4
CALLS = 120  # at least, before a replica goes and after


class Replica:
    """A decoder in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process, self.address = process, address

    async def end(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        return await asyncio.wait_for(self.process.wait(), 30)


@contextlib.asynccontextmanager
async def replicas(folder: Path, samples: Path, number: int = 2) -> AsyncIterator[list[Replica]]:
    started = []
    try:
        for index in range(number):
            address = folder / f"address-{index}"
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "shoppable.decoder", "--port", "0", "--address-file", str(address),
                "--file-roots", str(samples), "--log-level", "error", "--shutdown-delay-s", "0.5",
            )  # fmt: skip
            started.append(Replica(process, ""))
            async with asyncio.timeout(30):
                while not address.exists():
                    await asyncio.sleep(0.02)
            started[-1].address = address.read_text()
        yield started
    finally:
        for replica in started:
            if replica.process.returncode is None:
                replica.process.kill()
                await replica.process.wait()


class Callers:
    """Callers that ask one call after the other, and count how they end."""

    def __init__(self, client: DecoderClient, film: Path) -> None:
        self._client, self._film = client, film
        self.endings: Counter[str] = Counter()
        self._over = asyncio.Event()

    async def probe(self) -> None:
        while not self._over.is_set():
            try:
                await self._client.probe(common_pb2.VideoSource(uri=self._film.as_uri()), timeout_s=30)
                self.endings["OK"] += 1
            except ShoppableError as error:
                self.endings[f"{error.code.name} {error.message}"] += 1

    async def until(self, calls: int) -> None:
        wanted = self.endings.total() + calls
        async with asyncio.timeout(60):
            while self.endings.total() < wanted:
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._over.set()


def at_both(running: list[Replica]) -> str:
    return "ipv4:" + ",".join(replica.address for replica in running)


async def frames_of(client: DecoderClient, film: Path, begun: asyncio.Event) -> int:
    config = frame_decoder_pb2.DecodeFramesConfig(sampling=common_pb2.FrameSampling(frames_per_second=5))
    frames = 0
    async for response in client.decode(film.as_uri(), config, timeout_s=60):
        frames += response.WhichOneof("response") == "frame"
        begun.set()
    return frames


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_replica_that_goes_costs_no_call(tmp_path: Path, samples: Path, by: signal.Signals):
    film = samples / "film.mp4"
    async with replicas(tmp_path, samples) as running, open_channel(at_both(running)) as channel:
        client = DecoderClient(channel)
        callers = Callers(client, film)
        asking = [asyncio.create_task(callers.probe()) for _ in range(CALLERS)]
        await callers.until(CALLS)
        begun = [asyncio.Event() for _ in running]
        films = [asyncio.create_task(frames_of(client, film, event)) for event in begun]  # one at each
        await asyncio.gather(*(event.wait() for event in begun))
        status = await running[0].end(by)
        await callers.until(CALLS)
        callers.stop()
        await asyncio.gather(*asking)
        decoded = await asyncio.gather(*films, return_exceptions=True)
    assert callers.endings.keys() == {"OK"}, callers.endings
    if by is signal.SIGTERM:
        assert status == 0
        assert decoded[0] == decoded[1] > 0  # what was in work was finished
    else:
        # A stream that was in the middle at the one that was killed is told so; that of the other is whole.
        assert sum(isinstance(outcome, int) for outcome in decoded) == 1
        (lost,) = (outcome for outcome in decoded if not isinstance(outcome, int))
        assert isinstance(lost, ShoppableError)
        assert lost.code.name == "UNAVAILABLE"
