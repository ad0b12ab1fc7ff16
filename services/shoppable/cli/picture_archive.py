"""Pictures in a zip or tar file: looked up by name and read within limits; nothing is ever unpacked to a disk."""

from __future__ import annotations

import posixpath
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

_MOST_MEMBERS = 1_000_000


class ArchiveError(Exception):
    """An archive, or a picture in it, cannot be read; the text says why."""


class PictureArchive:
    """An open archive. Names are those of its members; a folder that holds all of them may be left out."""

    def __init__(self, path: Path) -> None:
        """Open it and read its list of members. Blocking.

        Raises:
            ArchiveError: It is neither a zip file nor a plain tar file, or holds too many members.
            OSError: It cannot be read.
        """
        self.path = path
        self._lock = threading.Lock()  # both kinds seek in one file
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        self._members: dict[str, zipfile.ZipInfo | tarfile.TarInfo] = {}
        try:
            if zipfile.is_zipfile(path):
                self._zip = zipfile.ZipFile(path)
                self._list(self._zip.infolist())
            else:
                # A compressed one would have to be unpacked up to each picture, again and again.
                self._tar = tarfile.open(path, "r:")  # noqa: SIM115  # closed by `close`
                self._list_tar(self._tar)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            self.close()
            raise ArchiveError(f"{path} is neither a zip file nor a tar file without compression") from error
        except ArchiveError:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        for one in (self._zip, self._tar):
            if one is not None:
                one.close()

    def read(self, name: str, *, most: int) -> bytes:
        """Return a member's bytes. Blocking.

        Raises:
            ArchiveError: There is none of this name, it is encrypted or broken, or larger than `most` bytes.
        """
        member = self._members.get(_normal(name) or "")
        if member is None:
            raise ArchiveError(f"is not in {self.path.name}")
        size = member.file_size if isinstance(member, zipfile.ZipInfo) else member.size
        if size > most:
            raise ArchiveError(f"is larger than {most // 2**20} MiB")
        try:
            with self._lock:
                data = self._read(member, most)
        except (zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise ArchiveError(f"cannot be read from {self.path.name}: {error}") from error
        if len(data) > most:  # the list of members lied
            raise ArchiveError(f"is larger than {most // 2**20} MiB")
        return data

    def _read(self, member: zipfile.ZipInfo | tarfile.TarInfo, most: int) -> bytes:
        if isinstance(member, zipfile.ZipInfo):
            assert self._zip is not None  # noqa: S101 -- members of its kind
            with self._zip.open(member) as file:
                return file.read(most + 1)
        assert self._tar is not None  # noqa: S101 -- members of its kind
        content = self._tar.extractfile(member)
        return content.read(most + 1) if content else b""

    def _list(self, members: list[zipfile.ZipInfo]) -> None:
        self._check_count(len(members))
        for member in members:
            if not member.is_dir():
                self._add(member.filename, member)
        self._drop_folder()

    def _list_tar(self, archive: tarfile.TarFile) -> None:
        for number, member in enumerate(archive, start=1):
            self._check_count(number)
            if member.isreg():  # a link could lead anywhere
                self._add(member.name, member)
        self._drop_folder()

    def _check_count(self, count: int) -> None:
        if count > _MOST_MEMBERS:
            raise ArchiveError(f"{self.path} holds more than {_MOST_MEMBERS} files")

    def _add(self, name: str, member: zipfile.ZipInfo | tarfile.TarInfo) -> None:
        normal = _normal(name)
        if normal:
            self._members.setdefault(normal, member)

    def _drop_folder(self) -> None:
        """Let members be named without the one folder that people pack by mistake."""
        folders = {name.partition("/")[0] if "/" in name else "" for name in self._members}
        if len(folders) == 1 and (folder := folders.pop()):
            self._members |= {name.removeprefix(f"{folder}/"): member for name, member in self._members.items()}


def _normal(name: str) -> str | None:
    """Return a member's name as it is looked up; None if it leads out of the archive."""
    normal = posixpath.normpath(name.replace("\\", "/"))
    return None if normal.startswith(("/", "..")) or normal == "." else normal
