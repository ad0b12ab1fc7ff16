"""Video sources of the blocking client: as those of the asynchronous one, and bytes come from a plain iterable."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from shoppable.client.sources import CHUNK_BYTES, describe

# What a source may be: a local file to upload, a URI that the decoder can read, or bytes that arrive over time.
Source = Path | str | Iterable[bytes]

__all__ = ["Source", "chunks", "describe"]


def chunks(source: Source) -> Iterator[bytes]:
    """Yield the bytes to upload; none for a URI."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    elif not isinstance(source, str):
        yield from source
