"""Feeds in Parquet files; needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import IO, TYPE_CHECKING

from shoppable.cli.feed_names import ATTRIBUTE_PREFIX
from shoppable.cli.feed_rows import FeedError, RawRow

if TYPE_CHECKING:
    from pyarrow import parquet

_BATCH_ROWS = 256
# Of one group of rows, unpacked: a reader holds some of it. Writers make groups of tens to hundreds of megabytes.
_GROUP_BYTES = 1 << 30
_COLUMNS = 1000


def parquet_rows(file: IO[bytes]) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file; a null is no value.

    Raises:
        FeedError: It is no such file, its groups of rows are too large, or the extra is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise FeedError("Parquet needs one more package: pip install 'shoppable[parquet]'") from error
    try:
        table = parquet.ParquetFile(file)
        _check_size(table.metadata)
        number = 0
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield RawRow(number, _content(values))
    except (pa.ArrowException, OSError) as error:
        raise FeedError(f"the Parquet file cannot be read: {error}") from error


def _check_size(metadata: parquet.FileMetaData) -> None:
    if metadata.num_columns > _COLUMNS:
        raise FeedError(f"the Parquet file has {metadata.num_columns} columns; at most {_COLUMNS} are read")
    for number in range(metadata.num_row_groups):
        if metadata.row_group(number).total_byte_size > _GROUP_BYTES:
            raise FeedError(f"row group {number} is larger than {_GROUP_BYTES // 2**20} MiB: write smaller ones")


def _content(values: Mapping[str, object]) -> dict[str, object]:
    content: dict[str, object] = {}
    attributes: dict[str, object] = {}
    for name, value in values.items():
        if value is None:
            continue
        # A binary fraction is meant as the shortest decimal that makes it.
        shown = Decimal(repr(value)) if isinstance(value, float) else value
        if name.startswith(ATTRIBUTE_PREFIX):
            attributes[name.removeprefix(ATTRIBUTE_PREFIX)] = shown
        elif name == "attributes" and isinstance(shown, list):
            attributes |= dict(shown)  # how Arrow writes a map
        elif name == "attributes" and isinstance(shown, dict):
            attributes |= {key: item for key, item in shown.items() if item is not None}
        else:
            content[name] = shown
    if attributes:
        content["attributes"] = attributes
    return content
