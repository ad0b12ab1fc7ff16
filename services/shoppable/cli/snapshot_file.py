"""The file of a backup: a line that says what it is, then the parts, each with its length and a checksum.

    shoppable catalogue backup 1
    (4 bytes: length, 4 bytes: CRC-32, both little-endian; the bytes of a SnapshotRecord) ...

A file that was cut or has a wrong byte is told as such, by the place where it goes wrong, and never read as less.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from google.protobuf.message import DecodeError

from shoppable.v1 import product_catalog_pb2 as pb

_MAGIC = b"shoppable catalogue backup 1\n"
_FRAME = struct.Struct("<II")
_MAX_PART = 16 * 2**20  # far above the largest product, and below what a server takes
_AHEAD = 64  # parts read in one go


class SnapshotFileError(Exception):
    """The file is no backup, or is damaged; the text says where."""


async def write_snapshot(records: AsyncIterator[pb.SnapshotRecord], file: IO[bytes]) -> pb.SnapshotEnd:
    """Write a backup's parts as they come, and return its end.

    Raises:
        ShoppableError: The backup broke off.
        OSError: The file cannot be written.
    """
    file.write(_MAGIC)
    end = pb.SnapshotEnd()
    async for record in records:
        data = record.SerializeToString()
        file.write(_FRAME.pack(len(data), zlib.crc32(data)) + data)
        if record.WhichOneof("record") == "end":
            end = record.end
    return end


async def read_snapshot(path: Path) -> AsyncIterator[pb.SnapshotRecord]:
    """Yield the parts of a backup; few are in memory at a time.

    Raises:
        SnapshotFileError: It is none, or is damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise SnapshotFileError("is no backup of a catalogue")
        while some := await asyncio.to_thread(_read_some, file):
            for record in some:
                yield record


def _read_some(file: IO[bytes]) -> list[pb.SnapshotRecord]:
    records: list[pb.SnapshotRecord] = []
    while len(records) < _AHEAD:
        at = file.tell()
        frame = file.read(_FRAME.size)
        if not frame:
            break
        length, checksum = _FRAME.unpack(frame) if len(frame) == _FRAME.size else (0, 0)
        if length > _MAX_PART:
            raise SnapshotFileError(f"is damaged at byte {at}")
        data = file.read(length)
        if not length or len(data) < length:
            raise SnapshotFileError(f"ends in the middle, at byte {file.tell()}")
        if zlib.crc32(data) != checksum:
            raise SnapshotFileError(f"is damaged at byte {at}")
        try:
            records.append(pb.SnapshotRecord.FromString(data))
        except DecodeError as error:
            raise SnapshotFileError(f"is damaged at byte {at}") from error
    return records
