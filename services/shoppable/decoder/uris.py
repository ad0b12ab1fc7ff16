"""Reads the URIs that name videos. What is read here is what is opened: nothing is dropped or mended on the way."""

import os
import re
from collections.abc import Collection
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from shoppable.decoder.domain import FilePath, Place, S3Object, WebAddress

MAX_URI_CHARACTERS = 8192
_PORTS = {"https": 443, "http": 80}
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?\.?")  # ASCII: names of other letters as xn--…
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def read_uri(uri: str, schemes: Collection[str]) -> Place:
    """Return what a URI names.

    Raises:
        ValueError: It is none of these schemes, or names nothing; the text says what it must be.
    """
    if len(uri) > MAX_URI_CHARACTERS:
        raise ValueError(f"must have at most {MAX_URI_CHARACTERS} characters")
    # urlsplit drops some of these without a word, and what is checked must be what is opened.
    if any(character <= " " or character == "\x7f" for character in uri):
        raise ValueError("must be a URI: encode spaces and control characters as %20 and the like")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError("must be a URI such as file:///absolute/path") from error
    if parts.scheme not in schemes:
        listed = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
        raise ValueError(f"must be a URI of a scheme that this decoder reads: {listed}")
    match parts.scheme:
        case "file":
            return _read_file(uri, parts)
        case "s3":
            return _read_s3(uri, parts)
        case _:
            return _read_web(uri, parts)


def _read_file(uri: str, parts: SplitResult) -> FilePath:
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ValueError("must name an absolute path of the decoder's host, as file:///absolute/path")
    if "?" in uri or "#" in uri:
        raise ValueError("must have no query and no fragment: encode ? and # as %3F and %23")
    path = unquote_to_bytes(parts.path)
    if b"\0" in path:
        raise ValueError("must not have a zero byte")
    return FilePath(os.fsdecode(path))


def _read_web(uri: str, parts: SplitResult) -> WebAddress:
    if not uri.isascii() or "\\" in uri:
        raise ValueError("must be a URI: encode what is not ASCII, and backslashes, as %5C and the like")
    if "@" in parts.netloc:
        raise ValueError("must have no user name and no password")
    if "#" in uri:
        raise ValueError("must have no fragment: encode # as %23")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("must have a port of 1 to 65535, or none") from error
    host = parts.hostname or ""
    if not (_HOST_NAME.fullmatch(host) or parts.netloc.startswith("[")):
        raise ValueError("must name a host")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebAddress(parts.scheme, host.rstrip("."), _PORTS[parts.scheme] if port is None else port, target)


def _read_s3(uri: str, parts: SplitResult) -> S3Object:
    if "?" in uri or "#" in uri:
        raise ValueError("must have no query and no fragment: encode ? and # as %3F and %23")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("must name a bucket and a key, as s3://bucket/key")
    try:
        key = unquote_to_bytes(parts.path.removeprefix("/")).decode()
    except UnicodeDecodeError as error:
        raise ValueError("must have a key in UTF-8") from error
    # The library would take some of these for others.
    if not key or any(part in {"", ".", ".."} for part in key.split("/")) or not key.isprintable():
        raise ValueError("must have a key whose parts between / are neither empty nor . nor ..")
    return S3Object(parts.netloc, key)
