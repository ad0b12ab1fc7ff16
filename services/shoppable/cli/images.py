"""The pictures that a feed names: read from paths, or fetched over https within limits.

A feed may come from a stranger. So a URL is fetched only from public addresses, over https at every step, and the
connection goes to the very address that was checked; and only what begins like a picture is passed on.
Proxies of the environment are not used: behind one, the address could not be checked.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

import httpx

from shoppable.cli.picture_archive import ArchiveError, PictureArchive
from shoppable.runtime.addresses import is_public

MAX_IMAGE_BYTES = 8 * 2**20
_TIMEOUT_S = 20.0
_ATTEMPTS = 3
_RETRY_S = 0.5
_REDIRECTS = 5
_CONNECTIONS = 8
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class ImageError(Exception):
    """A picture cannot be had; the text says why."""


class _TransientError(ImageError):
    """It may work when asked again."""


@dataclass(frozen=True)
class LoadedImage:
    """A picture's bytes, and where a person can see it."""

    data: bytes
    uri: str


class ImageLoader:
    """Loads what feeds name; an async context manager."""

    def __init__(
        self, place: Path, *, allow_private: bool = False, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Make a loader.

        Args:
            place: What relative paths are relative to, such as the feed's folder; or an archive that holds them.
            allow_private: Whether URLs may lead to addresses inside this network.
            transport: What carries the requests; default the network.
        """
        self._place = place
        self._archive: PictureArchive | None = None
        self._allow_private = allow_private
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(_TIMEOUT_S, connect=10.0),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            ArchiveError: The place is a file, and no archive that can be read.
            OSError: It cannot be read.
        """
        if await asyncio.to_thread(self._place.is_file):
            self._archive = await asyncio.to_thread(PictureArchive, self._place)
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()
        if self._archive:
            self._archive.close()

    async def load(self, reference: str) -> LoadedImage:
        """Load one picture.

        Raises:
            ImageError: It cannot be had, is too large, or is no picture.
        """
        scheme = urlsplit(reference).scheme.lower() if "://" in reference else ""
        if scheme == "https":
            loaded = LoadedImage(await self._fetch_patiently(reference), reference)
        elif scheme:
            raise ImageError("is neither a path nor an https URL")
        else:
            loaded = await asyncio.to_thread(self._read, reference)
        if not is_picture(loaded.data):
            raise ImageError("is not a JPEG, PNG or WebP picture")
        return loaded

    def _read(self, reference: str) -> LoadedImage:
        if self._archive:
            try:
                data = self._archive.read(reference, most=MAX_IMAGE_BYTES)
            except ArchiveError as error:
                raise ImageError(str(error)) from error
            return LoadedImage(data, f"{self._place.resolve().as_uri()}#{quote(reference)}")
        try:
            path = (self._place / reference).resolve()
            if not path.is_file():
                raise ImageError("no such file")
            if path.stat().st_size > MAX_IMAGE_BYTES:
                raise ImageError(f"is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
            return LoadedImage(path.read_bytes(), path.as_uri())
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise ImageError(f"cannot be read: {reason or error}") from error

    async def _fetch_patiently(self, url: str) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._slots, asyncio.timeout(_TIMEOUT_S):
                    return await self._fetch(url)
            except TimeoutError:
                failure: ImageError = ImageError(f"did not arrive within {_TIMEOUT_S:g} s")
            except _TransientError as error:
                failure = error
            except httpx.InvalidURL as error:
                raise ImageError(f"is no URL: {error}") from error
            if attempt < _ATTEMPTS:
                await asyncio.sleep(_RETRY_S * attempt)
        raise failure

    async def _fetch(self, url: str) -> bytes:
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme.lower() != "https" or not parts.hostname:
                raise ImageError("leads to what is no https URL")
            address = await self._checked_address(parts.hostname, parts.port or 443)
            location, data = await self._get(url, address)
            if location is None:
                return data
            url = urljoin(url, location)
        raise ImageError(f"is redirected more than {_REDIRECTS} times")

    async def _checked_address(self, host: str, port: int) -> str:
        """Resolve a host, and return one of its addresses if all of them may be asked."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _TransientError(f"the host {host} cannot be found") from error
        addresses = [str(item[4][0]) for item in found]
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise ImageError(f"{host} is an address inside this network; --allow-private lets it be asked")
        return addresses[0]

    async def _get(self, url: str, address: str) -> tuple[str | None, bytes]:
        """Ask for a URL at an address; return where it redirects to, or its bytes."""
        original = httpx.URL(url)
        request = self._client.build_request(
            "GET",
            original.copy_with(host=address),
            headers={"Host": original.netloc.decode("ascii"), "Accept": "image/jpeg, image/png, image/webp"},
            # The certificate must be the host's, not the address's.
            extensions={"sni_hostname": original.host},
        )
        try:
            response = await self._client.send(request, stream=True)
            try:
                return await _read_response(response)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise _TransientError(f"cannot be fetched: {error or type(error).__name__}") from error


async def _read_response(response: httpx.Response) -> tuple[str | None, bytes]:
    if response.is_redirect:
        return response.headers["location"], b""
    if response.status_code >= 500 or response.status_code == 429:
        raise _TransientError(f"the server answered {response.status_code}")
    if response.status_code != 200:
        raise ImageError(f"the server answered {response.status_code}")
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind and not kind.startswith("image/") and kind not in {"application/octet-stream", "binary/octet-stream"}:
        raise ImageError(f"the server sent {kind}, no picture")
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageError(f"is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
    return None, bytes(data)


def is_picture(data: bytes) -> bool:
    """Whether bytes begin as a JPEG, PNG or WebP file does."""
    return data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
