"""Backups: a catalogue comes back as it was on another server, at once or not at all, and hostile files are refused."""

import copy
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import pytest

from shoppable.cli.snapshot_file import SnapshotFileError, read_snapshot, write_snapshot
from shoppable.client import CatalogClient, ShoppableError
from shoppable.matcher.server import build
from shoppable.runtime.server import serving
from shoppable.v1 import product_catalog_pb2 as pb
from support.catalogs import CATALOG, MatcherClient, picture, sample_upserts, settings_of, upsert_of

Parts = list[pb.SnapshotRecord]


class Server:
    """A matcher in this process, and its clients."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.calls, self.client = MatcherClient(channel), CatalogClient(channel)

    async def backup(self, name: str = CATALOG) -> Parts:
        return [part async for part in self.client.backup_catalog(name)]

    async def restore(self, parts: Iterable[pb.SnapshotRecord], name: str, *, replace: bool = False) -> pb.Catalog:
        async def stream() -> AsyncIterator[pb.SnapshotRecord]:
            for part in parts:
                yield part

        made = pb.Catalog()
        config = pb.RestoreCatalogConfig(catalog=name, replace=replace)
        async for response in self.client.restore_catalog(config, stream()):
            made = response.catalog
        return made

    async def names(self) -> list[str]:
        return [catalog.name async for catalog in self.client.list_catalogs()]


@pytest.fixture
async def server(tmp_path: Path, triton_endpoint: str) -> AsyncIterator[Server]:
    async with (
        serving(settings_of(tmp_path / "one", triton_endpoint), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Server(channel)


async def test_a_catalogue_comes_back_on_another_server_without_embedding_anything(
    server: Server, tmp_path: Path, triton_endpoint: str, samples: Path
) -> None:
    upserts = sample_upserts(samples)
    await server.calls.upsert(upserts)
    before = await server.client.get_catalog(CATALOG)
    file = tmp_path / "sample.backup"
    with file.open("wb") as target:
        end = await write_snapshot(server.client.backup_catalog(CATALOG), target)
    assert (end.product_count, end.image_count, end.revision) == (33, before.image_count, before.revision)
    pictures = [upsert.product.images[0].image for upsert in upserts[:4]]
    matched = await server.calls.match(*pictures)
    products = [product async for product in server.client.list_products(CATALOG)]

    async with (
        serving(settings_of(tmp_path / "two", triton_endpoint), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        other = Server(channel)
        made = await other.restore([part async for part in read_snapshot(file)], CATALOG)
        assert (made.product_count, made.image_count) == (33, before.image_count)
        assert made.revision >= before.revision
        assert (made.embedder, made.attribute_keys) == (before.embedder, before.attribute_keys)
        assert [product async for product in other.client.list_products(CATALOG)] == products
        again = await other.calls.match(*pictures)
        for one, same in zip(matched.results, again.results, strict=True):
            assert [match.product.name for match in one.products] == [match.product.name for match in same.products]
            assert [m.confidence for m in one.products] == pytest.approx(
                [m.confidence for m in same.products], abs=1e-4
            )
        _, summary = await other.calls.upsert(upserts)
        assert summary.unchanged == 33, "digests came along"
    async with (
        serving(settings_of(tmp_path / "two", triton_endpoint), build) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        assert (await Server(channel).client.get_catalog(CATALOG)).image_count == before.image_count


async def test_a_restored_catalogue_takes_the_place_of_another_only_if_it_may(server: Server) -> None:
    await server.calls.upsert([upsert_of("a", attributes={"seller": "x"}), upsert_of("b", row=2)])
    parts = await server.backup()
    await server.calls.upsert([upsert_of("c")])
    await server.client.delete_product(f"{CATALOG}/products/a")
    with pytest.raises(ShoppableError) as caught:
        await server.restore(parts, CATALOG)
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS
    before = await server.client.get_catalog(CATALOG)
    listed = pb.ListProductsRequest(parent=CATALOG, page_size=1)
    page = await server.calls.catalogs.ListProducts(listed)
    assert [product.name for product in page.products] == [f"{CATALOG}/products/b"]
    made = await server.restore(parts, CATALOG, replace=True)
    assert made.revision > before.revision
    listed.page_token = page.next_page_token
    assert not (await server.calls.catalogs.ListProducts(listed)).products, "the token goes on behind b, where c was"
    found = [product.name.rpartition("/")[2] async for product in server.client.list_products(CATALOG)]
    assert found == ["a", "b"]
    await server.calls.upsert([upsert_of("d")])
    assert (await server.client.get_catalog(CATALOG)).product_count == 3
    copied = await server.restore(parts, "catalogs/copy")
    assert copied.product_count == 2
    wanted = pb.ProductFilter(attributes=[pb.AttributeFilter(key="seller", values=["x"])])
    only = [product.name async for product in server.client.list_products("catalogs/copy", product_filter=wanted)]
    assert only == ["catalogs/copy/products/a"]
    response = await server.calls.match(picture(1), catalog="catalogs/copy")
    assert response.results[0].products


async def test_a_calibration_comes_along(server: Server, samples: Path) -> None:
    upserts = sample_upserts(samples)[:12]
    await server.calls.upsert(upserts)

    async def things() -> AsyncIterator[pb.LabelledThing]:
        for upsert in upserts:
            yield pb.LabelledThing(row=upsert.row, views=[upsert.product.images[0].image], product_id=upsert.product_id)

    async for _ in server.client.calibrate_catalog(pb.CalibrationConfig(catalog=CATALOG), things()):
        pass
    made = await server.restore(await server.backup(), "catalogs/copy")
    assert made.calibrated
    shown = upserts[3].product.images[-1].image
    confidences = [
        [match.confidence for match in (await server.calls.match(shown, catalog=name)).results[0].products]
        for name in (CATALOG, "catalogs/copy")
    ]
    assert confidences[0] == pytest.approx(confidences[1], abs=1e-4)


async def test_a_backup_that_is_not_right_changes_nothing_and_is_told_what_is_wrong(server: Server) -> None:
    await server.calls.upsert([upsert_of(name, row=row, images=2) for row, name in enumerate(("a", "b", "c"))])
    parts = await server.backup()
    before = await server.client.get_catalog(CATALOG)

    def changed(place: int, change: str, value: object) -> Parts:
        altered = copy.deepcopy(parts)
        target: object = altered[place]
        *path, last = change.split(".")
        for name in path:
            target = target[int(name)] if name.isdigit() else getattr(target, name)  # type: ignore[index]
        setattr(target, last, value)
        return altered

    twisted = copy.deepcopy(parts)
    twisted[1].product.images[0].embedding = b"\x00\x00\xc0\x7f" * 1280  # not a number
    wrong: list[tuple[Parts, grpc.StatusCode, str]] = [
        ([], grpc.StatusCode.INVALID_ARGUMENT, "no backup"),
        (parts[1:], grpc.StatusCode.INVALID_ARGUMENT, "no backup"),
        (parts[:-1], grpc.StatusCode.INVALID_ARGUMENT, "cut off after 3 products"),
        ([*parts[:2], *parts[3:]], grpc.StatusCode.INVALID_ARGUMENT, "3 products with 6 images"),
        ([parts[0], parts[2], parts[1], *parts[3:]], grpc.StatusCode.INVALID_ARGUMENT, "a follows b"),
        ([*parts, parts[-1]], grpc.StatusCode.INVALID_ARGUMENT, "must not follow the end"),
        ([parts[0], *parts], grpc.StatusCode.INVALID_ARGUMENT, "must be a product or the end"),
        (changed(0, "header.format", 2), grpc.StatusCode.FAILED_PRECONDITION, "format 2"),
        (changed(0, "header.catalog.embedder.version", "7"), grpc.StatusCode.FAILED_PRECONDITION, "version 7"),
        (changed(0, "header.catalog.embedding_size", 2**31), grpc.StatusCode.INVALID_ARGUMENT, "65536"),
        (changed(0, "header.calibration", "[" * 100_000), grpc.StatusCode.INVALID_ARGUMENT, "calibration"),
        (changed(1, "product.product_id", "../a"), grpc.StatusCode.INVALID_ARGUMENT, "must be 1..128"),
        (changed(2, "product.images.1.embedding", b"12345678"), grpc.StatusCode.INVALID_ARGUMENT, "1280 numbers"),
        (changed(2, "product.product.title", ""), grpc.StatusCode.INVALID_ARGUMENT, "(b)"),
        (twisted, grpc.StatusCode.INVALID_ARGUMENT, "length 1"),
    ]
    for records, code, words in wrong:
        for name, replace in (("catalogs/new", False), (CATALOG, True)):
            with pytest.raises(ShoppableError) as caught:
                await server.restore(records, name, replace=replace)
            told = [caught.value.message, *(violation.description for violation in caught.value.violations)]
            assert caught.value.code is code, told
            assert any(words in text for text in told), told
        assert await server.names() == [CATALOG]
        assert await server.client.get_catalog(CATALOG) == before
    assert (await server.restore(parts, "catalogs/new")).product_count == 3


async def test_a_file_that_was_cut_or_altered_is_told_where(server: Server, tmp_path: Path) -> None:
    await server.calls.upsert([upsert_of(name, row=row) for row, name in enumerate(("a", "b"))])
    file = tmp_path / "backup"
    with file.open("wb") as target:
        await write_snapshot(server.client.backup_catalog(CATALOG), target)
    whole = file.read_bytes()
    assert [part async for part in read_snapshot(file)] == await server.backup()
    for data, words in (
        (b"", "no backup"),
        (b"PK" + whole[2:], "no backup"),
        (whole[:-3], "ends in the middle"),
        (whole[: len(whole) // 2], "ends in the middle"),
        (whole[: len(whole) // 2] + b"\xff" + whole[len(whole) // 2 + 1 :], "damaged at byte"),
        (whole[:29] + b"\xff\xff\xff\xff" + whole[33:], "damaged at byte 29"),
    ):
        file.write_bytes(data)
        with pytest.raises(SnapshotFileError, match=words):
            await server.restore([part async for part in read_snapshot(file)], "catalogs/copy")
    assert await server.names() == [CATALOG]
