"""What callers of a suite do, as calls that a load run can repeat, and what the suite's processes take."""

import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from google.type import money_pb2

from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient, MatcherClient, OrchestratorClient, ShoppableError, open_channel
from shoppable.local.locations import SAMPLES
from shoppable.local.suite import SERVICES, LocalSuite, SuiteOptions
from shoppable.v1 import common_pb2, orchestrator_pb2, product_catalog_pb2, product_matcher_pb2

CATALOG = "catalogs/sample"
FILM = SAMPLES / "film.mp4"
_SHARED = "shoppable-tensors"
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class Outcome:
    """How a call went."""

    kind: str
    started: float  # time.monotonic()
    took_s: float
    code: grpc.StatusCode
    told_when: bool  # whether a refusal says when to come again


class Traffic:
    """Calls of each kind to one suite, over channels that stay open."""

    def __init__(self, orchestrator: grpc.aio.Channel, matcher: grpc.aio.Channel) -> None:
        """Take the channels."""
        self.orchestrator = OrchestratorClient(orchestrator)
        self._matcher = MatcherClient(matcher)
        self._catalogs = CatalogClient(matcher)
        self._picture = min(SAMPLES.rglob("*.jpg")).read_bytes()
        self._written = 0
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "clip": self._clip,
            "film": self._film,
            "search": self._search,
            "import": self._import,
        }

    async def call(self, kind: str) -> Outcome:
        """Make one call, whatever comes of it."""
        started, code, told = time.monotonic(), grpc.StatusCode.OK, False
        try:
            await self.kinds[kind]()
        except ShoppableError as error:
            code, told = error.code, error.retry_after_s is not None
        return Outcome(kind, started, time.monotonic() - started, code, told)

    async def _clip(self) -> None:
        await self._annotate(common_pb2.VideoSource(uri=FILM.as_uri()), seconds=1)

    async def _film(self) -> None:
        async for _ in self.orchestrator.stream_annotate(FILM, _options(14), timeout_s=120):
            pass

    async def _annotate(self, source: common_pb2.VideoSource, *, seconds: int) -> None:
        await self.orchestrator.annotate(source, _options(seconds), timeout_s=120)

    async def _search(self) -> None:
        request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG)
        request.queries.add().views.add(image=common_pb2.Image(data=self._picture))
        await self._matcher.match(request, timeout_s=60)

    async def _import(self) -> None:
        config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG)
        async for _ in self._catalogs.upsert_products(config, self._changes(), timeout_s=60):
            pass

    async def _changes(self) -> AsyncIterator[product_catalog_pb2.ProductUpsert]:
        # Twenty products whose prices change: the catalogue must not grow over hours.
        for number in range(20):
            self._written += 1
            product = product_catalog_pb2.Product(
                title=f"Traffic {number}",
                price=money_pb2.Money(currency_code="EUR", units=self._written),
                images=[product_catalog_pb2.ReferenceImage(image=common_pb2.Image(data=self._picture))],
            )
            yield product_catalog_pb2.ProductUpsert(row=number, product=product, product_id=f"traffic-{number}")


def _options(seconds: int) -> orchestrator_pb2.AnnotateOptions:
    return orchestrator_pb2.AnnotateOptions(catalog=CATALOG, end_time={"seconds": seconds}, omit_thumbnails=True)


@dataclass(frozen=True)
class Held:
    """What a process takes."""

    rss_mb: float
    descriptors: int  # but those of the memory that is shared with Triton, a pool that is bounded in bytes


def held(pids: Collection[int]) -> Held:
    """Read what processes take together; memory that they share is counted for each."""
    resident = descriptors = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            resident += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was closed
                    descriptors += _SHARED not in str(entry.readlink())
    return Held(resident * _PAGE_KB / 1024, descriptors)


@asynccontextmanager
async def loaded_suite() -> AsyncIterator[tuple[LocalSuite, Traffic, Path]]:
    """A suite with the sample catalogue in it, traffic for it, and the folder of its catalogues."""
    with TemporaryDirectory(prefix="shoppable-load-") as scratch:
        folder = Path(scratch)
        options = SuiteOptions(data_folder=folder / "data", log_folder=folder / "logs", file_roots=(SAMPLES,))
        async with (
            LocalSuite(options) as suite,
            open_channel(suite.endpoints.orchestrator) as orchestrator,
            open_channel(suite.endpoints.matcher) as matcher,
        ):
            await import_feed(CatalogClient(matcher), SAMPLES / "catalog.jsonl", catalog="sample")
            yield suite, Traffic(orchestrator, matcher), options.data_folder


def holdings(suite: LocalSuite) -> dict[str, Held]:
    """Read what each process of the suite takes now, with those that it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.name))

    def family(pid: int) -> list[int]:
        return [pid, *(one for child in children.get(pid, ()) for one in family(child))]

    pids = {name: suite.pids[name] for name in (*SERVICES, "inference")}
    return {name: held(family(pid)) for name, pid in pids.items() if pid}


@dataclass(frozen=True)
class Disk:
    """What catalogues take on the disk."""

    data_mb: float
    log_mb: float  # of write-ahead logs: each grows to two segments of 32 MB, of which the older one is then deleted


def disk_of(catalogues: Path) -> Disk:
    """Read what a folder of catalogues takes on the disk now."""
    data = logs = 0
    for path in catalogues.rglob("*"):
        with contextlib.suppress(OSError):  # it is gone
            size = 512 * path.stat().st_blocks
            if "wal" in path.relative_to(catalogues).parts:
                logs += size
            else:
                data += size
    return Disk(data / 2**20, logs / 2**20)
