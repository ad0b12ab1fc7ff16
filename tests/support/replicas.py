"""Several replicas of a service as real processes, each of which can be killed, drained and started again."""

import asyncio
import contextlib
import re
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoppable.local.ports import ReservedPort

_LIMIT_S = 60
_PROMPT = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
_CALLS = re.compile(r'^shoppable_calls_total\{code="(\w+)",method="(\w+)",service="[\w.]+"\} ([\d.e+]+)$', re.MULTILINE)


class Replica:
    """One process of a service, always at the same address."""

    def __init__(self, service: str, number: int, folder: Path, flags: Sequence[str]) -> None:
        self._port, self._metrics = ReservedPort(), ReservedPort()
        self._log = folder / f"{service}-{number}.log"
        self._command = [
            sys.executable, "-m", f"shoppable.{service}", f"--port={self._port.number}",
            f"--metrics-port={self._metrics.number}", *flags,
        ]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return self._port.address

    async def start(self) -> None:
        """Start it, and return when it serves.

        Raises:
            AssertionError: It ended; the text is its log.
        """
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(*self._command, stderr=output)
        async with (
            asyncio.timeout(_LIMIT_S),
            grpc.aio.insecure_channel(self.address, options=_PROMPT) as channel,
        ):
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                assert self._process.returncode is None, self._log.read_text()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def drain(self) -> None:
        """End it as an orchestrator of containers does, and wait until it has."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self._process.wait(), _LIMIT_S)
        assert self._process.returncode == 0, self._log.read_text()

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()
        self._port.release()
        self._metrics.release()

    async def calls(self, method: str) -> int:
        """Return how many calls of a method this process has answered well, from its metrics."""
        url = f"http://{self._metrics.address}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
        return sum(int(float(count)) for code, name, count in _CALLS.findall(text) if (code, name) == ("OK", method))


class Replicas:
    """The replicas of one service, behind one name that gRPC understands."""

    def __init__(self, members: Sequence[Replica]) -> None:
        self.members = members

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, service: str, count: int, folder: Path, *flags: str) -> AsyncIterator[Self]:
        """Start so many at a time; they end with the context."""
        replicas = cls([Replica(service, number, folder, flags) for number in range(count)])
        try:
            await asyncio.gather(*(member.start() for member in replicas.members))
            yield replicas
        finally:
            await asyncio.gather(*(member.close() for member in replicas.members))

    @property
    def target(self) -> str:
        """All addresses, as a resolver of names would tell them."""
        return "ipv4:" + ",".join(member.address for member in self.members)

    async def calls(self, method: str) -> list[int]:
        """Return how many calls of a method each has answered well since it was started."""
        return [await member.calls(method) for member in self.members]

    async def restart_one_after_another(self) -> None:
        """Drain each and start it again, as a rolling restart does."""
        for member in self.members:
            await member.drain()
            await member.start()
