"""Opens what a request names: a file, a web server's, an object in a bucket, bytes; each within its own limits."""

import asyncio
import threading
from typing import TYPE_CHECKING

from shoppable.decoder.domain import FilePath, InlineSource, S3Object, UriSource, WebAddress
from shoppable.decoder.inputs import FileRoots, OpenFile, in_memory
from shoppable.decoder.remote import Remote, RemoteLimits, open_remote, run_on_loop, settle
from shoppable.decoder.uploads import Upload, UploadLimits

if TYPE_CHECKING:  # both stand on packages that only they need
    from shoppable.decoder.adapters.s3 import Buckets
    from shoppable.decoder.adapters.web import Web, WebBody


class Sources:
    """All that this decoder's operator allows. Created on the event loop, used in threads."""

    def __init__(
        self,
        roots: FileRoots,
        *,
        remote: RemoteLimits,
        bodies: UploadLimits,
        web: "Web | None",
        buckets: "Buckets | None",
    ) -> None:
        """Without `web` or `buckets` such sources must not be asked for.

        Args:
            roots: What files may be read.
            remote: The limits of what lies elsewhere.
            bodies: The limits of what a server cannot give in pieces.
            web: Web servers.
            buckets: S3.
        """
        self._roots = roots
        self._remote = remote
        self._bodies = bodies
        self._web = web
        self._buckets = buckets
        self._loop = asyncio.get_running_loop()

    def open(self, source: UriSource | InlineSource, stop: threading.Event, *, field: str, seeks: bool) -> OpenFile:
        """Open a source. Blocking.

        Args:
            source: What the request names.
            stop: Ends all waiting soon after it is set.
            field: The path of the source in the request, for errors.
            seeks: Whether the reader is better off with a file in which it can seek, even if it has to wait for it.

        Raises:
            ServiceError: It cannot be had; see the contract.
            StoppedError: `stop` was set.
        """
        if isinstance(source, InlineSource):
            return in_memory(source.data)
        field = f"{field}.uri"
        match source.place:
            case FilePath(path):
                return self._roots.open(path, uri=source.uri, field=field)
            case WebAddress() as address:
                assert self._web is not None  # noqa: S101  # for the type checker: the scheme was checked
                found = run_on_loop(self._loop, self._web.open(address, uri=source.uri, field=field), stop)
                if isinstance(found, Remote):
                    return open_remote(found, self._remote, self._loop, stop)
                return self._open_body(found, field=field, seeks=seeks, stop=stop)
            case S3Object() as place:
                assert self._buckets is not None  # noqa: S101  # for the type checker: the scheme was checked
                stored = run_on_loop(self._loop, self._buckets.open(place, uri=source.uri, field=field), stop)
                return open_remote(stored, self._remote, self._loop, stop)

    def _open_body(self, body: "WebBody", *, field: str, seeks: bool, stop: threading.Event) -> OpenFile:
        """Read what comes in one piece as an upload is read."""
        upload = Upload(
            self._bodies, self._loop, total_bytes=body.size, total_field=field, bytes_field=field, seekable=seeks
        )
        filling = asyncio.run_coroutine_threadsafe(upload.fill(body.chunks()), self._loop)

        def release() -> None:
            filling.cancel()
            settle(self._loop, body.aclose())
            upload.close()

        try:
            opened = upload.open(stop)
        except BaseException:
            release()
            raise
        return OpenFile(opened.file, opened.size_bytes, seekable=opened.seekable, release=release)
