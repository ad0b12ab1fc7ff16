"""Which sources the settings allow, and what reads them.

What is not allowed is not even imported: https:// and s3:// need packages that only they need.
"""

import ipaddress
import ssl
from typing import TYPE_CHECKING

from shoppable.decoder.inputs import FileRoots
from shoppable.decoder.remote import RemoteLimits
from shoppable.decoder.settings import DecoderSettings
from shoppable.decoder.sources import Sources
from shoppable.decoder.uploads import UploadLimits

if TYPE_CHECKING:
    from shoppable.decoder.adapters.s3 import Buckets
    from shoppable.decoder.adapters.web import Web


def schemes_of(settings: DecoderSettings) -> frozenset[str]:
    """Return the schemes of URIs that are read."""
    schemes = {"file"}
    if settings.https_hosts:
        schemes |= {"https", "http"} if settings.plain_http else {"https"}
    if settings.s3_buckets:
        schemes.add("s3")
    return frozenset(schemes)


def new_sources(settings: DecoderSettings, uploads: UploadLimits) -> Sources:
    """Return all sources. On the event loop.

    Raises:
        RuntimeError: A setting cannot be followed; the text names it.
    """
    limits = RemoteLimits(
        max_bytes=settings.max_file_bytes,
        cache_bytes=settings.remote_cache_bytes,
        header_s=settings.remote_header_s,
        stall_s=settings.remote_stall_s,
        request_s=settings.remote_request_s,
        total_s=settings.remote_total_s,
        attempts=settings.remote_attempts,
    )
    return Sources(
        FileRoots(settings.file_roots, max_bytes=settings.max_file_bytes),
        remote=limits,
        bodies=uploads,
        web=_new_web(settings, limits) if settings.https_hosts else None,
        buckets=_new_buckets(settings, limits) if settings.s3_buckets else None,
    )


def _new_web(settings: DecoderSettings, limits: RemoteLimits) -> "Web":
    try:
        from shoppable.decoder.adapters.guarded_network import AddressRules, GuardedNetwork
        from shoppable.decoder.adapters.web import Web, WebRules
    except ModuleNotFoundError as error:
        raise RuntimeError("https_hosts is set and needs: pip install 'shoppable[remote]'") from error
    try:
        networks = [ipaddress.ip_network(network) for network in settings.https_networks]
    except ValueError as error:
        raise RuntimeError(f"https_networks must be networks such as 10.0.0.0/8: {error}") from error
    try:
        tls = _new_tls(settings)
    except OSError as error:
        raise RuntimeError(f"https_ca_file must hold certificates: {error}") from error
    rules = WebRules(schemes_of(settings) - {"file", "s3"}, settings.https_hosts, settings.https_ports)
    return Web(rules, limits, GuardedNetwork(AddressRules(networks)), tls)


def _new_tls(settings: DecoderSettings) -> ssl.SSLContext:
    """Return how servers prove who they are.

    Raises:
        OSError: The file of roots cannot be used.
    """
    if settings.https_ca_file is not None:
        return ssl.create_default_context(cafile=settings.https_ca_file)
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _new_buckets(settings: DecoderSettings, limits: RemoteLimits) -> "Buckets":
    try:
        from shoppable.decoder.adapters.s3 import Buckets
    except ModuleNotFoundError as error:
        raise RuntimeError("s3_buckets is set and needs: pip install 'shoppable[s3]'") from error
    return Buckets(settings.s3_buckets, settings.s3_endpoint, settings.s3_region, settings.s3_anonymous, limits)
