"""Writers and readers of a catalogue while its process is killed again and again; the history is checked afterwards.

Per product the history must be linearizable, revisions must order writes, what a match under `min_revision` shows must
be no older than the write of that revision, and what was acknowledged must be there after each kill.
"""

import asyncio
import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from google.type import money_pb2

from faults.harness import Finding
from faults.history import Operation, Value, is_linearizable
from shoppable.client import CatalogClient, MatcherClient, ShoppableError, open_channel
from shoppable.v1 import product_catalog_pb2, product_matcher_pb2
from support.catalogs import CATALOG, upsert_of
from support.matcher_process import MatcherProcess

# `KILLS=50` for the run that the reliability page tells of.
KILLS = int(os.environ.get("KILLS", "5"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
PRODUCTS = ("kettle", "lamp", "chair")
WORKERS = 4


class Recorder:
    """Works on the products, several at a time, and writes down what was sent and what came back."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.history: dict[str, list[Operation]] = defaultdict(list)
        self.revisions: list[tuple[float, float, int]] = []  # start, end and revision of acknowledged writes
        self.values = 0
        self.lost_answers = 0

    async def work(self, address: str) -> None:
        """Do one thing after another until the server is gone."""
        async with open_channel(address) as channel:
            catalogs, matcher = CatalogClient(channel), MatcherClient(channel)
            while True:
                product = self.chance.choice(PRODUCTS)
                action = self.chance.choices((self.write, self.delete, self.read, self.match), (4, 1, 3, 2))[0]
                try:
                    await action(product, catalogs, matcher)
                except ShoppableError as error:
                    assert error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, error
                    return

    async def write(self, product: str, catalogs: CatalogClient, _: MatcherClient) -> None:
        self.values += 1
        value, start = self.values, time.monotonic()
        try:
            revision = await put(catalogs, product, value)
        except ShoppableError:
            self._keep(product, Operation(True, value, start))
            raise
        self._keep(product, Operation(True, value, start, time.monotonic()), revision)

    async def delete(self, product: str, catalogs: CatalogClient, _: MatcherClient) -> None:
        start = time.monotonic()
        try:
            revision = await catalogs.delete_product(f"{CATALOG}/products/{product}")
        except ShoppableError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                self._keep(product, Operation(False, None, start, time.monotonic()))
                return
            self._keep(product, Operation(True, None, start))
            raise
        self._keep(product, Operation(True, None, start, time.monotonic()), revision)

    async def read(self, product: str, catalogs: CatalogClient, _: MatcherClient) -> None:
        start = time.monotonic()
        value = await price_of(catalogs, product)
        self._keep(product, Operation(False, value, start, time.monotonic()))

    async def match(self, product: str, _: CatalogClient, matcher: MatcherClient) -> None:
        start = time.monotonic()
        newest = max((revision for _, _, revision in self.revisions), default=0)
        response = await matcher.match(search_for(product, min_revision=newest))
        assert response.catalog_revision >= newest
        seen = {found.product.name: found.product.price.units for found in response.results[0].products}
        value = seen.get(f"{CATALOG}/products/{product}")
        self._keep(product, Operation(False, value, start, time.monotonic()))

    def _keep(self, product: str, operation: Operation, revision: int | None = None) -> None:
        self.history[product].append(operation)
        if revision is not None:
            self.revisions.append((operation.start, operation.end, revision))
        elif operation.write:
            self.lost_answers += 1


async def put(catalogs: CatalogClient, product: str, value: int) -> int:
    """Write a product whose price is the value; return the revision."""
    upsert = upsert_of(product, price=money_pb2.Money(currency_code="EUR", units=value))

    async def one() -> AsyncIterator[product_catalog_pb2.ProductUpsert]:
        yield upsert

    config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
    revision = None
    async for response in catalogs.upsert_products(config, one()):
        if response.WhichOneof("response") == "result":
            if response.result.HasField("status"):
                raise ShoppableError.from_status(response.result.status)
            revision = response.result.revision
            break  # acknowledged: what happens to the rest of the call does not matter
    assert revision
    return revision


async def price_of(catalogs: CatalogClient, product: str) -> Value:
    """Read a product's value."""
    try:
        return (await catalogs.get_product(f"{CATALOG}/products/{product}")).price.units
    except ShoppableError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return None
        raise


def search_for(product: str, *, min_revision: int) -> product_matcher_pb2.MatchProductsRequest:
    """A request that finds the product by its own picture."""
    request = product_matcher_pb2.MatchProductsRequest(catalog=CATALOG, min_revision=min_revision)
    request.queries.add().views.add(image=upsert_of(product).product.images[0].image)
    return request


async def test_a_catalogue_that_is_killed_again_and_again_keeps_a_true_history(
    tmp_path: Path, triton_endpoint: str, findings: list[Finding]
):
    recorder, known, newest = Recorder(SEED), dict.fromkeys(PRODUCTS, None), 0
    operations = 0
    for number in range(KILLS):
        server = await MatcherProcess.start(tmp_path / "data", triton_endpoint)
        try:
            async with open_channel(server.address) as channel:
                catalogs = CatalogClient(channel)
                if number == 0:
                    await put(catalogs, "stool", 1)  # so that the catalogue exists
                # Nobody else is at work: what is read now holds for all that comes.
                found = {product: await price_of(catalogs, product) for product in PRODUCTS}
                revision = (await catalogs.get_catalog(CATALOG)).revision
            operations += check(recorder, known, found)
            assert revision >= max([newest, *(given for _, _, given in recorder.revisions)])
            known, newest = found, revision
            recorder.revisions.clear()
            workers = [asyncio.create_task(recorder.work(server.address)) for _ in range(WORKERS)]
            await asyncio.sleep(recorder.chance.uniform(0.1, 1.2))
        finally:
            await server.kill()
        await asyncio.gather(*workers)
    assert operations > 10 * KILLS
    findings.append(
        Finding(
            f"a catalogue killed {KILLS} times under writers and readers",
            f"UNAVAILABLE; {operations} operations are linearizable, {recorder.lost_answers} writes had no answer",
        )
    )


def check(recorder: Recorder, before: dict[str, Value], after: dict[str, Value]) -> int:
    """Check the history between two moments of rest; return how many operations there were."""
    count = 0
    for product in PRODUCTS:
        now = time.monotonic()
        history = [*recorder.history.pop(product, []), Operation(False, after[product], now, now)]
        assert is_linearizable(history, before[product]), f"{product}: {before[product]} {history}"
        count += len(history)
    ordered = sorted(recorder.revisions)
    for start, _, revision in ordered:
        for _, ended, other in ordered:
            assert revision > other or ended >= start, "a later write has an earlier revision"
    assert len({revision for _, _, revision in ordered}) == len(ordered)
    return count
