"""Tells from a file's first bytes whether it can be decoded as it comes, or must be whole first. No FFmpeg."""

TS_HEAD_BYTES = 4 * 204
_TS_PACKET_BYTES = (188, 192, 204)
_EBML = b"\x1a\x45\xdf\xa3"  # Matroska and WebM
# What may stand at the top of an MP4 or MOV file, and is passed over on the way to `moov` or `mdat`.
_PASSED_BOXES = {b"ftyp", b"styp", b"free", b"skip", b"wide", b"pnot", b"uuid", b"sidx", b"ssix", b"emsg", b"prft"}


def can_stream(head: bytes | bytearray) -> bool | None:
    """Return whether a file that begins so gives its frames in the order of its bytes; None: too little is known.

    MPEG-TS, Matroska and WebM do, and MP4 and MOV whose `moov` box, with or without fragments, comes before the
    pictures. All else is said not to, the unknown too.
    """
    if len(head) < 8:
        return None
    if head.startswith(_EBML):
        return True
    if bytes(head[4:8]) in _PASSED_BOXES | {b"moov", b"mdat"}:
        return _moov_comes_first(head)
    if len(head) < TS_HEAD_BYTES:
        return None
    return ts_packet_bytes(head) is not None


def ts_packet_bytes(head: bytes | bytearray) -> int | None:
    """Return the size of the packets if this, of at least `TS_HEAD_BYTES` bytes, is how MPEG-TS begins."""
    head = head[:TS_HEAD_BYTES]
    return next((size for size in _TS_PACKET_BYTES if _has_period(head, size)), None)


def _has_period(head: bytes | bytearray, size: int) -> bool:
    """Return whether the sync byte of MPEG-TS, first seen within one packet, comes again after each packet."""
    first = head.find(b"\x47", 0, size)
    return first >= 0 and len(head) > first + size and all(byte == 0x47 for byte in head[first::size])


def _moov_comes_first(head: bytes | bytearray) -> bool | None:
    place = 0
    while len(head) >= place + 16:
        size, kind = int.from_bytes(head[place : place + 4]), bytes(head[place + 4 : place + 8])
        if kind == b"moov":
            return True
        if kind not in _PASSED_BOXES:
            return False
        if size == 1:  # a size of 64 bits follows
            size = int.from_bytes(head[place + 8 : place + 16])
        if size < 8:  # 0 means up to the file's end
            return False
        place += size
    return None
