"""How a file ends: where it should, or in the middle of something."""

from av.video.stream import VideoStream

from shoppable.decoder.containers import ts_packet_bytes
from shoppable.decoder.domain import NS_PER_S

_INDEX_TAIL = 32  # entries at the index's end that are held against the file's size


def ends_early(stated_ns: int | None, read_until_ns: int) -> bool:
    """Return whether the packets stop by half a second and by 5 % before the stated length."""
    if stated_ns is None:
        return False
    return stated_ns - read_until_ns > max(NS_PER_S // 2, stated_ns // 20)


def index_promises_more(stream: VideoStream, size_bytes: int) -> bool:
    """Return whether the index, as MP4 has one, lists frames that lie behind the end of the file."""
    entries = stream.index_entries
    tail = entries[max(0, len(entries) - _INDEX_TAIL) :]
    return any(entry.pos + entry.size > size_bytes for entry in tail)


def ends_inside_ts_packet(container: str, head: bytes, size_bytes: int) -> bool:
    """Return whether an MPEG-TS file, which states no length, ends in the middle of one of its packets.

    `head` is its first `TS_HEAD_BYTES` bytes.
    """
    packet_bytes = ts_packet_bytes(head) if container == "mpegts" else None
    return packet_bytes is not None and size_bytes % packet_bytes != 0
