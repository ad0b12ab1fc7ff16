"""TLS of a server: its certificate, and the roots that clients' certificates must come from, read again on change."""

import ssl
import threading
from dataclasses import dataclass
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
    files = ServerFiles(server_files(certificate, key, roots))
    return grpc.dynamic_ssl_server_credentials(
        files.configuration(),
        files.newer_configuration,  # type: ignore[arg-type]  # None says that nothing is new
        require_client_authentication=roots is not None,
    )


@dataclass(frozen=True)
class Contents:
    """PEM texts of a server's certificate, its key, and the roots of clients' certificates."""

    certificate: bytes
    key: bytes
    roots: bytes | None


class ServerFiles:
    """Gives gRPC each version of the files once.

    Its threads ask at each handshake, several at a time, and what they are given replaces what other handshakes may be
    about to use. So nothing is given that is not new: with the same answer each time, a process was seen to crash.
    """

    def __init__(self, files: WatchedFiles[Contents]) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._given: Contents | None = None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return what to begin with."""
        self._given = self._files.value()
        return grpc.ssl_server_certificate_configuration(
            [(self._given.key, self._given.certificate)], root_certificates=self._given.roots
        )

    def newer_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold if it has not been given yet; else None."""
        with self._lock:
            contents = self._files.value()
            if contents is self._given:
                return None
            return self.configuration()


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


def server_files(
    certificate: Path, key: Path, roots: Path | None, *, look_every_s: float = 1.0
) -> WatchedFiles[Contents]:
    """Return the files' contents, read again when they change and fit together.

    Raises:
        ConfigurationError: They cannot be read, or do not fit together.
    """

    def read() -> Contents:
        check_pair(certificate, key)
        if roots is not None:
            check_roots(roots)
        return Contents(certificate.read_bytes(), key.read_bytes(), roots.read_bytes() if roots else None)

    return WatchedFiles([certificate, key, *([roots] if roots else [])], read, look_every_s=look_every_s)


def _no_password() -> str:
    """Answer for OpenSSL, which would ask at the terminal: an encrypted key is refused."""
    return ""
