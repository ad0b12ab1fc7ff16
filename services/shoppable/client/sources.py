"""Video sources: a path or bytes of this process become an upload, a URI goes as it is."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path

from shoppable.v1 import common_pb2

CHUNK_BYTES = 256 * 1024
# What a source may be: a local file to upload, a URI that the decoder can read, or bytes that arrive over time.
Source = Path | str | AsyncIterable[bytes]


def describe(source: Source | Iterable[bytes], *, live: bool = False) -> common_pb2.VideoSource:
    """Return the message for a source; `live` tells whether bytes that arrive over time may go on without end.

    Raises:
        FileNotFoundError: A path leads to no file.
    """
    if isinstance(source, str):
        return common_pb2.VideoSource(uri=source)
    upload = common_pb2.VideoUpload()
    if isinstance(source, Path):
        upload.total_bytes = source.stat().st_size
    else:
        upload.live = live
    return common_pb2.VideoSource(upload=upload)


async def chunks(source: Source) -> AsyncIterator[bytes]:
    """Yield the bytes to upload; none for a URI."""
    if isinstance(source, Path):
        with await asyncio.to_thread(source.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
    elif not isinstance(source, str):
        async for chunk in source:
            yield chunk
