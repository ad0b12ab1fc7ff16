"""The whole suite as real processes, with a fault proxy before each of them, and what must hold after each fault."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults.proxy import FaultProxy
from faults.toxics import Toxic
from shoppable.client import CatalogClient, open_channel
from shoppable.local.suite import SERVICES, LocalSuite, SuiteOptions
from shoppable.v1 import product_catalog_pb2
from support.catalogs import CATALOG, sample_upserts

HOPS = (*SERVICES, "inference")
RECOVERY_LIMIT_S = 45
_START_LIMIT_S = 120
_TENSORS = "shoppable-tensors"
_TENSOR_BYTES_LIMIT = 64 * 2**20  # `triton_shared_memory_mb`
_DESCRIPTORS_SLACK = 12  # connections that come and go
_KEPT_CHANNEL = [("grpc.max_reconnect_backoff_ms", 300), ("grpc.initial_reconnect_backoff_ms", 100)]
T = TypeVar("T")


@dataclass
class Finding:
    """What one fault came to: a row of the reliability page."""

    fault: str
    caller_sees: str
    recovery_s: float | None = None  # from the end of the fault to the next whole answer
    lost: str = "nothing"


@dataclass(frozen=True)
class Holdings:
    """What the processes hold."""

    descriptors: dict[str, int]  # but those of the memory that is shared with Triton, which is bounded in bytes
    shared_memory: Counter[str]  # segments of Triton's processes, by the owner that their names tell
    tensor_bytes: dict[str, int]  # that services share with Triton; a pool that grows up to its limit

    def left_behind(self, later: "Holdings") -> list[str]:
        """Say what is held later and was not before."""
        grown = [
            f"{name} holds {later.descriptors[name]} descriptors, {count} before"
            for name, count in self.descriptors.items()
            if later.descriptors.get(name, 0) > count + _DESCRIPTORS_SLACK
        ]
        # Owners that are new belong to other suites of this machine.
        grown += [
            f"{later.shared_memory[owner]} segments of shared memory of {owner}, {count} before"
            for owner, count in self.shared_memory.items()
            if later.shared_memory[owner] > count
        ]
        return grown + [
            f"{name} shares {count} bytes with Triton"
            for name, count in later.tensor_bytes.items()
            if count > _TENSOR_BYTES_LIMIT
        ]


@dataclass
class FaultySuite:
    """The suite in a thread of its own. Calls to `address` and between the services go through proxies."""

    folder: Path
    roots: tuple[Path, ...]

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty suite", daemon=True)
        self._proxies = {name: FaultProxy(name) for name in HOPS}
        self._suite = LocalSuite(
            SuiteOptions(
                data_folder=self.folder / "data",
                log_folder=self.folder / "logs",
                file_roots=self.roots,
                route=self._route,
            )
        )

    def _route(self, name: str, address: str) -> str:
        self._proxies[name].upstream = address
        return self._proxies[name].address

    @property
    def address(self) -> str:
        """The orchestrator, through its proxy."""
        return self._proxies["orchestrator"].address

    def endpoint(self, name: str) -> str:
        """A service itself, with no proxy before it."""
        return str(getattr(self._suite.endpoints, name))

    def routed(self, name: str) -> str:
        """A service through its proxy."""
        return self._proxies[name].address

    def pid(self, name: str) -> int:
        """The process of a service, or of "inference"."""
        pid = self._suite.pids.get(name)
        assert pid is not None
        return pid

    @property
    def log_folder(self) -> Path:
        return self._suite.log_folder

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._enter(), _START_LIMIT_S)
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._leave(), _START_LIMIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _enter(self) -> None:
        for proxy in self._proxies.values():
            await proxy.__aenter__()
        await self._suite.__aenter__()
        self._route("orchestrator", self._suite.endpoints.orchestrator)

    async def _leave(self) -> None:
        await self._suite.__aexit__(None, None, None)
        for proxy in self._proxies.values():
            await proxy.__aexit__()

    def _do(self, work: Awaitable[T], limit_s: float = 10) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(limit_s)

    async def import_samples(self, samples: Path) -> None:
        """Put the sample catalogue in."""

        async def products() -> AsyncIterator[product_catalog_pb2.ProductUpsert]:
            for upsert in sample_upserts(samples):
                yield upsert

        config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
        async with open_channel(self.endpoint("matcher")) as channel:
            async for response in CatalogClient(channel).upsert_products(config, products()):
                assert response.result.outcome != product_catalog_pb2.UPSERT_OUTCOME_FAILED

    @contextlib.contextmanager
    def spoiled(self, hop: str, *toxics: Toxic) -> Iterator[FaultProxy]:
        """Spoil the way to a service. Connections of before are reset, and again afterwards."""
        proxy = self._proxies[hop]
        stack = contextlib.ExitStack()
        self._do(_call(stack.enter_context, proxy.spoiled(*toxics)))
        try:
            yield proxy
        finally:
            self._do(_call(stack.close))

    def holdings(self) -> Holdings:
        """Look at what the processes hold now."""
        return Holdings(
            {name: _descriptors(self.pid(name)) for name in SERVICES},
            Counter(
                "-".join(entry.name.split("-")[:2])
                for entry in Path("/dev/shm").glob("*shoppable*")
                if not entry.name.startswith(_TENSORS)
            ),
            {name: _shared_bytes(self.pid(name)) for name in SERVICES},
        )

    async def until_well(self) -> float:
        """Wait until the orchestrator says that it and all that it needs serve; return how many seconds it took.

        Raises:
            TimeoutError: It does not heal by itself within `RECOVERY_LIMIT_S`.
        """
        started = time.monotonic()
        async with (
            asyncio.timeout(RECOVERY_LIMIT_S),
            grpc.aio.insecure_channel(self.endpoint("orchestrator"), options=_KEPT_CHANNEL) as channel,
        ):
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return time.monotonic() - started
                await asyncio.sleep(0.1)

    async def until_nothing_is_left(self, before: Holdings) -> None:
        """Wait until the processes hold no more than they did.

        Raises:
            AssertionError: Something stays.
        """
        for _ in range(100):
            left = before.left_behind(self.holdings())
            if not left:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("; ".join(left))


async def _call(function: Callable[..., T], *arguments: object) -> T:
    return function(*arguments)


def _descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed
            count += _TENSORS not in str(entry.readlink())
    return count


def _shared_bytes(pid: int) -> int:
    """Return how much a process has mapped of what it shares with Triton."""
    mapped = (line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if _TENSORS in line)
    spans = (fields[0].split("-") for fields in mapped)
    return sum(int(end, 16) - int(start, 16) for start, end in spans)
