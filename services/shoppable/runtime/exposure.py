"""Refuses to serve strangers by mistake: beyond this machine, a server has TLS and knows its callers."""

from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.watched_files import ConfigurationError

_LOOPBACK = ("localhost", "[::1]", "::1")


def is_loopback(host: str) -> bool:
    """Tell whether a host, as settings and addresses have it, is this machine alone."""
    return host in _LOOPBACK or host.startswith(("127.", "unix"))


def check_exposure(settings: ServerSettings, *, callers_are_known: bool) -> None:
    """Do nothing if the server may listen where it is told to.

    Raises:
        ConfigurationError: It would be open to a network; the text says what to set.
    """
    if is_loopback(settings.host) or settings.allow_insecure:
        return
    missing = []
    if settings.tls_certificate_file is None:
        missing.append("no TLS (set tls_certificate_file and tls_key_file)")
    if not callers_are_known:
        missing.append(
            "no way to know its callers (set auth_callers_file, or auth_jwt_keys_file or auth_jwt_keys_url,"
            " or tls_client_ca_file)"
        )
    if missing:
        raise ConfigurationError(
            f"host is {settings.host}, so others can reach this server, and it has {' and '.join(missing)}."
            " Where something in front of it does both, set allow_insecure=true; on one machine, host=127.0.0.1"
        )


def check_peer(settings: ServerSettings, endpoint: str) -> None:
    """Do nothing if the service may call that endpoint as it is told to.

    Raises:
        ConfigurationError: It would send its key over a network in the clear.
    """
    target = endpoint.rpartition("///")[2]
    host = target.rpartition(":")[0] or target
    if settings.peer_api_key_file is None or settings.speaks_tls_to_peers or settings.allow_insecure:
        return
    if not is_loopback(host):
        raise ConfigurationError(
            f"peer_api_key_file would be sent to {endpoint} in the clear; set peer_tls=true or peer_ca_file,"
            " or allow_insecure=true"
        )
