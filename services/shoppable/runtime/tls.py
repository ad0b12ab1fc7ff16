"""TLS of a server: its certificate, and the roots that clients' certificates must come from, read again on change."""

import ssl
from pathlib import Path

import grpc

from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.watched_files import ConfigurationError, WatchedFiles


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """Return the credentials that the settings ask for; None for no TLS.

    Each new connection is given the files as they are then; those that stand keep what they began with.

    Raises:
        ConfigurationError: The settings or the files cannot be used.
    """
    certificate, key, roots = settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file
    if certificate is None and key is None and roots is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("TLS needs both tls_certificate_file and tls_key_file")
    paths = [certificate, key, *([roots] if roots else [])]
    files = WatchedFiles(paths, lambda: _configuration(certificate, key, roots))
    return grpc.dynamic_ssl_server_credentials(
        files.value(), files.value, require_client_authentication=roots is not None
    )


def check_pair(certificate: Path, key: Path) -> None:
    """Raise ConfigurationError unless the files hold a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        # OpenSSL's texts name what is wrong and never quote the key.
        raise ConfigurationError(
            f"{certificate} and {key} are no certificate with its unencrypted key, both PEM ({error.reason})"
        ) from error


def check_roots(roots: Path) -> None:
    """Raise ConfigurationError unless the file holds certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(roots)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{roots} holds no PEM certificates ({error.reason})") from error


def _configuration(certificate: Path, key: Path, roots: Path | None) -> grpc.ServerCertificateConfiguration:
    check_pair(certificate, key)
    if roots is not None:
        check_roots(roots)
    return grpc.ssl_server_certificate_configuration(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=roots.read_bytes() if roots else None,
    )


def _no_password() -> str:
    """Answer for OpenSSL, which would ask at the terminal: an encrypted key is refused."""
    return ""
