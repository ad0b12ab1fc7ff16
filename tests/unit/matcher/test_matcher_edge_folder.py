"""The embedded index's folder: what a crash leaves, who owns it, and a disk that takes no more."""

import asyncio
import errno
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shoppable.matcher.adapters import edge_catalog
from shoppable.matcher.adapters.edge_folder import FolderInUseError, FolderLock
from shoppable.matcher.adapters.qdrant_edge import open_edge_index
from shoppable.matcher.names import new_generation
from shoppable.runtime.errors import FailedPreconditionError, UnavailableError
from support.catalog_points import LATER, change_of, record_of, store


async def test_what_a_crash_left_half_made_is_cleared_away(tmp_path: Path) -> None:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        await store(index, change_of("a"))
    (tmp_path / "catalogs" / "half" / "shard").mkdir(parents=True)
    (tmp_path / "catalogs" / ".deleted-gone").mkdir()
    (tmp_path / "catalogs" / "shop" / "catalog.new").write_text("{")
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        assert [record.catalog_id for record in await index.list_catalogs()] == ["shop"]
        assert await index.product_ids("shop") == ["a"]
        assert await index.create_catalog(record_of("half"))
    assert sorted(entry.name for entry in (tmp_path / "catalogs").iterdir()) == ["half", "shop"]


async def test_a_revision_taken_before_a_crash_is_not_given_again(tmp_path: Path) -> None:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        taken = await index.advance("shop", attribute_keys=set(), updated=LATER)
        unseen = await index.get_catalog("shop")
        assert unseen is not None
        assert unseen.revision < taken.revision  # readers see a revision once its write is done
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        later = LATER + timedelta(seconds=1)
        assert (await index.advance("shop", attribute_keys=set(), updated=later)).revision > taken.revision


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 99}'])
async def test_a_damaged_catalogue_is_named(tmp_path: Path, damage: str) -> None:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
    (tmp_path / "catalogs" / "shop" / "catalog.json").write_text(damage)
    with pytest.raises(RuntimeError, match="catalogs/shop cannot be opened"):
        async with open_edge_index(tmp_path, timeout_s=10):
            pass
    FolderLock(tmp_path).release()  # it was given back


PRODUCTS = [f"p{number}" for number in range(30)]
FILES = [
    "catalog.json",
    "edge_config.json",
    "segment.json",
    "mutable_id_tracker.mappings",
    "mutable_id_tracker.versions",
    "tracker.dat",
    "status.dat",
]
DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "noise": lambda file: file.write_bytes(random.Random(1).randbytes(file.stat().st_size)),
}


async def make_catalogue(folder: Path) -> None:
    async with open_edge_index(folder, timeout_s=10) as index:
        await index.create_catalog(record_of())
        for product in PRODUCTS:  # one by one: Edge repeats the last write when it opens
            await store(index, change_of(product))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "data"
    asyncio.run(make_catalogue(folder))
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
async def test_a_damaged_file_never_loses_products_without_a_word(
    whole: Path, tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(whole, folder)
    DAMAGE[damage](max(folder.rglob(name), key=lambda file: (file.stat().st_size, file)))
    try:
        async with open_edge_index(folder, timeout_s=10) as index:
            assert await index.product_ids("shop") == sorted(PRODUCTS)  # it did without that file
            assert all([await index.stored_images("shop", product) for product in PRODUCTS])
    except RuntimeError as error:
        assert f"{folder / 'catalogs' / 'shop'} cannot be opened" in str(error)
    assert (folder / "catalogs" / "shop" / "shard").is_dir()  # nothing was cleared away


async def test_what_is_left_can_be_had_without_the_seal_and_all_of_it_by_another_import(
    whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(whole, folder)
    DAMAGE["half"](max(folder.rglob("mutable_id_tracker.mappings"), key=lambda file: file.stat().st_size))
    with pytest.raises(RuntimeError, match=r"holds \d+ images, and held 30"):
        async with open_edge_index(folder, timeout_s=10):
            pass
    (folder / "catalogs" / "shop" / "sealed.json").unlink()
    async with open_edge_index(folder, timeout_s=10) as index:
        left = await index.product_ids("shop")
        assert 0 < len(left) < len(PRODUCTS)
        await store(index, *(change_of(product) for product in PRODUCTS))
        assert await index.product_ids("shop") == sorted(PRODUCTS)


async def test_a_catalogue_that_is_moved_away_lets_the_others_be_served(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(whole, folder)
    async with open_edge_index(folder, timeout_s=10) as index:
        await index.create_catalog(record_of("other"))
    DAMAGE["empty"](folder / "catalogs" / "shop" / "catalog.json")
    with pytest.raises(RuntimeError, match="catalogs/shop cannot be opened"):
        async with open_edge_index(folder, timeout_s=10):
            pass
    (folder / "catalogs" / "shop").rename(tmp_path / "damaged")
    async with open_edge_index(folder, timeout_s=10) as index:
        assert [record.catalog_id for record in await index.list_catalogs()] == ["other"]
        assert await index.create_catalog(record_of())


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    owner = FolderLock(tmp_path / "new" / "data")
    with pytest.raises(FolderInUseError, match="in use by process"):
        FolderLock(tmp_path / "new" / "data")
    owner.release()
    FolderLock(tmp_path / "new" / "data").release()


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*args: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FailedPreconditionError),
        (OSError(errno.EROFS, "Read-only file system"), FailedPreconditionError),
        (Exception("Service runtime error: No space left on device"), FailedPreconditionError),
        (Exception("Service runtime error: something"), UnavailableError),
    ],
)
async def test_a_disk_that_takes_no_more_is_told_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        first = await store(index, change_of("a"))
        with monkeypatch.context() as patch:
            patch.setattr(edge_catalog, "write_json", fail_with(error))
            with pytest.raises(kind):
                await store(index, change_of("b"))
        assert await index.product_ids("shop") == ["a"]
        assert (await store(index, change_of("b"))).revision == first.revision + 1


async def test_what_was_staged_when_a_process_ended_is_gone_and_what_took_its_place_stays(tmp_path: Path) -> None:
    new, other = (replace(record_of(), generation=new_generation(), revision=5) for _ in range(2))
    unfinished = replace(record_of("unfinished"), generation=new_generation())
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        await store(index, change_of("old"))
        for staged in (new, other, unfinished):
            await index.stage(staged)
            await index.write(staged.store, [change_of("new")], revision=5)
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        assert await index.product_ids("shop") == ["old"]
        assert [record.catalog_id for record in await index.list_catalogs()] == ["shop"]
        await index.stage(new)
        await index.write(new.store, [change_of("new")], revision=5)
        assert await index.promote(new, expected=2)
    assert [path.name for path in (tmp_path / "catalogs").iterdir()] == ["shop"]
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        assert await index.get_catalog("shop") == new
        assert await index.product_ids(new.store) == ["new"]
        assert await index.create_catalog(record_of("unfinished"))
    assert [path.name for path in (tmp_path / "catalogs" / "shop").glob("shard*")] == [f"shard.{new.generation}"]
