import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from shoppable.cli.images import ImageError, ImageLoader
from shoppable.cli.picture_archive import ArchiveError, PictureArchive

JPEG = b"\xff\xd8\xff\xe0 and so on"
MOST = 1 << 20


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
async def test_pictures_are_found_by_name(tmp_path: Path, kind: str) -> None:
    members = {"photos/a b.jpg": JPEG, "photos/deep/c.jpg": JPEG + b"2"}
    path = tmp_path / f"p.{kind}"
    zipped(path, **members) if kind == "zip" else tarred(path, members)
    async with ImageLoader(path) as loader:
        assert (await loader.load("photos/a b.jpg")).data == JPEG
        loaded = await loader.load("./photos/deep/../deep/c.jpg")
        assert (loaded.data, loaded.uri) == (JPEG + b"2", f"{path.as_uri()}#./photos/deep/../deep/c.jpg")
        for wrong in ("none.jpg", "../p.zip", "/etc/passwd", "link.jpg", "photos/../../a b.jpg"):
            with pytest.raises(ImageError):
                await loader.load(wrong)


def test_one_folder_around_all_may_be_left_out(tmp_path: Path) -> None:
    archive = PictureArchive(zipped(tmp_path / "p.zip", **{"photos/a.jpg": JPEG, "photos/b.jpg": JPEG}))
    assert archive.read("a.jpg", most=MOST) == archive.read("photos/a.jpg", most=MOST) == JPEG
    archive.close()


def test_members_that_lead_out_are_not_there(tmp_path: Path) -> None:
    archive = PictureArchive(zipped(tmp_path / "p.zip", **{"../a.jpg": JPEG, "/b.jpg": JPEG, "..\\c.jpg": JPEG}))
    for name in ("../a.jpg", "a.jpg", "/b.jpg", "b.jpg", "..\\c.jpg", "c.jpg"):
        with pytest.raises(ArchiveError, match="not in"):
            archive.read(name, most=MOST)
    archive.close()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "p.zip", bomb=bytes(64 << 20))
    with pytest.raises(ArchiveError, match="larger"):
        PictureArchive(path).read("bomb", most=MOST)
    # One whose list of members lies about the size: the second place that says it is the central directory.
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    assert len(_read_or_refuse(path)) <= MOST


def _read_or_refuse(path: Path) -> bytes:
    try:
        return PictureArchive(path).read("bomb", most=MOST)
    except ArchiveError:
        return b""


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"text"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.zip"
    path.write_bytes(content)
    with pytest.raises(ArchiveError):
        PictureArchive(path)


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="without compression"):
        PictureArchive(tarred(tmp_path / "p.tar.gz", {"a.jpg": JPEG}, "w:gz"))
