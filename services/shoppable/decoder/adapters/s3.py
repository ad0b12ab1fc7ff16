"""Objects in S3 buckets, and in whatever speaks its protocol, by obstore.

The endpoint, the region and the credentials are the operator's: of a request only the allowed bucket and the key count.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from shoppable.decoder.domain import S3Object
from shoppable.decoder.errors import changed, oversize, unavailable
from shoppable.decoder.remote import RemoteLimits
from shoppable.runtime.errors import NotFoundError, PermissionDeniedError

if TYPE_CHECKING:  # at run time the package does not have them
    from obstore.store import ClientConfig, S3Config

T = TypeVar("T")


@dataclass(frozen=True)
class Buckets:
    """The buckets that may be read. Credentials come from the environment, as AWS's own tools take them."""

    allowed: Sequence[str]
    endpoint: str | None
    region: str | None
    anonymous: bool  # requests are not signed
    limits: RemoteLimits

    async def open(self, place: S3Object, *, uri: str, field: str) -> "S3File":
        """Find an object; `field` is the path of the URI in the request.

        Raises:
            ServiceError: It is not allowed, not there, too large, or cannot be had.
        """
        if place.bucket not in self.allowed:
            raise PermissionDeniedError(
                "the URI leads to a bucket that this decoder's operator did not allow", reason="BUCKET_NOT_ALLOWED"
            )
        store = self._store(place.bucket)
        found = await _answer(obstore.head_async(store, place.key), uri, self.limits.request_s)
        if found["size"] > self.limits.max_bytes:
            raise oversize(field, limit=self.limits.max_bytes, value=found["size"])
        return S3File(store, place.key, uri=uri, size=found["size"], etag=found["e_tag"], limits=self.limits)

    def _store(self, bucket: str) -> S3Store:
        config: S3Config = {"bucket": bucket, "skip_signature": self.anonymous}
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=self.limits.header_s),
            "timeout": timedelta(seconds=self.limits.request_s),
            "user_agent": "shoppable-decoder",
        }
        if self.endpoint is not None:
            config["endpoint"] = self.endpoint
            client["allow_http"] = self.endpoint.startswith("http://")
        if self.region is not None:
            config["region"] = self.region
        return S3Store(
            config=config,
            client_options=client,
            retry_config={
                "max_retries": self.limits.attempts - 1,
                "retry_timeout": timedelta(seconds=self.limits.request_s),
            },
        )


class S3File:
    """A Remote."""

    def __init__(
        self, store: S3Store, key: str, *, uri: str, size: int, etag: str | None, limits: RemoteLimits
    ) -> None:
        self._store = store
        self._key = key
        self._uri = uri
        self._etag = etag
        self._limits = limits
        self.size = size

    async def read(self, start: int, end: int) -> bytes:
        """See Remote."""
        return await _answer(self._read(start, end), self._uri, self._limits.request_s)

    async def aclose(self) -> None:
        """See Remote. The store closes its connections when nobody refers to it."""

    async def _read(self, start: int, end: int) -> bytes:
        answer = await obstore.get_async(
            self._store, self._key, options={"range": (start, end), "if_match": self._etag}
        )
        if answer.meta["size"] != self.size or answer.range != (start, end):
            raise changed()
        data = bytes(await answer.bytes_async())
        if len(data) != end - start:
            raise unavailable("the bucket sends other bytes than it says")
        return data


async def _answer(asked: Awaitable[T], uri: str, limit_s: float) -> T:
    """Wait for an answer, and translate its errors, whose texts may hold more than a caller may know."""
    try:
        async with asyncio.timeout(limit_s):
            return await asked
    except FileNotFoundError as error:
        raise NotFoundError("object", uri, "the bucket has no such object") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionDeniedError("the bucket does not hand out this object", reason="REMOTE_DENIED") from error
    except exceptions.PreconditionError as error:
        raise changed() from error
    except (exceptions.BaseError, OSError, ValueError) as error:  # TimeoutError is an OSError
        raise unavailable("the bucket cannot be reached, or does not answer") from error
