"""Pictures inside the report, as data: URIs; made small, since each is shown at the size of a stamp."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image, UnidentifiedImageError

_SIDE = 288
_MOST_BYTES = 32 * 2**20
_MOST_PIXELS = 50_000_000


def embed_jpeg(data: bytes) -> str:
    """Return a data: URI of a JPEG that a service made; empty for no bytes."""
    return _uri(data) if data.startswith(b"\xff\xd8\xff") else ""


def embed_file(address: str) -> str:
    """Return a data: URI of a picture on this machine, made small; empty if the address is no readable picture."""
    parts = urlsplit(address)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return ""
    path = Path(unquote(parts.path))
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ""
        with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return ""
            picture.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            flat = Image.new("RGB", picture.size, "white")
            flat.paste(picture.convert("RGB"), mask=picture.getchannel("A") if "A" in picture.getbands() else None)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return ""
    flat.thumbnail((_SIDE, _SIDE))
    small = io.BytesIO()
    flat.save(small, "JPEG", quality=84)
    return _uri(small.getvalue())


def _uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
