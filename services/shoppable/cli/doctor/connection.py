"""Whether a server can be reached at all, and what its TLS is worth: seen by plain sockets, before gRPC.

gRPC says UNAVAILABLE to all of this. Blocking: run it in a thread.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shoppable.cli.doctor.findings import Finding, ok, warning, wrong

_TIMEOUT_S = 5.0
_EXPIRES_SOON_DAYS = 14
# The beginning of HTTP/2 with empty settings: what refuses our certificate says so only after it.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Access:
    """How we come: with TLS or without, trusting whom, and with which certificate of our own."""

    tls: bool = False
    roots: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    api_key: str = ""


def look_at(subject: str, target: str, access: Access) -> Finding:
    """Return what there is to say of the way to `target`, host:port; an error if gRPC cannot work over it."""
    host, _, port = target.rpartition("///")[2].rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as plain:
            if access.tls:
                return _look_at_tls(subject, target, host, plain, access)
    except socket.gaierror:
        return wrong(
            subject,
            "NAME_UNKNOWN",
            f"the name {host} is not known here",
            "check the address; inside of a cluster, run the doctor inside too",
        )
    except ConnectionRefusedError:
        return wrong(
            subject,
            "REFUSED",
            f"nothing listens at {target}",
            "start the service, or check the port; its log says `cannot serve` and why if it refused to start",
        )
    except OSError as error:
        return wrong(
            subject,
            "NO_ANSWER",
            f"{target} does not answer ({error.strerror or error})",
            "check firewalls and NetworkPolicies between here and there",
        )
    if _speaks_tls(host, int(port)):
        return wrong(
            subject,
            "SPEAKS_TLS",
            f"{target} speaks TLS, and was asked without",
            "use --tls, or --ca FILE where its certificate comes from an authority of your own",
        )
    return ok(subject, "REACHED", f"{target} can be reached")


def _look_at_tls(subject: str, target: str, host: str, plain: socket.socket, access: Access) -> Finding:
    try:
        context = ssl.create_default_context(cafile=access.roots)
        context.set_alpn_protocols(["h2"])
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
    except (OSError, ssl.SSLError) as error:
        return wrong(subject, "OWN_FILES", f"our own TLS files cannot be used: {error}", "check --ca, --cert and --key")
    try:
        with context.wrap_socket(plain, server_hostname=host) as connection:
            certificate = connection.getpeercert() or {}
            connection.sendall(_GREETING)
            if not connection.recv(9):
                return _turned_away(subject, target, access, "it closed the connection")
    except ssl.SSLCertVerificationError as error:
        return _unverified(subject, target, host, error)
    except ssl.SSLError as error:
        if "ALERT" in str(error.reason):
            return _turned_away(subject, target, access, str(error.reason))
        return wrong(
            subject,
            "NOT_TLS",
            f"{target} does not speak TLS ({error.reason})",
            "leave --tls and --ca out, or set tls_certificate_file and tls_key_file on the server",
        )
    return _lifetime(subject, target, str(certificate.get("notAfter", "")))


def _turned_away(subject: str, target: str, access: Access, how: str) -> Finding:
    """Return what it means that a server ends the connection once it has seen our certificate, or that we have none."""
    if access.certificate is None:
        return wrong(
            subject,
            "CLIENT_CERTIFICATE_NEEDED",
            f"{target} wants a certificate of its callers ({how})",
            "use --cert FILE and --key FILE with one that its tls_client_ca_file vouches for",
        )
    return wrong(
        subject,
        "CLIENT_CERTIFICATE_REFUSED",
        f"{target} does not take our certificate ({how})",
        "it must come from the server's tls_client_ca_file, and not be expired",
    )


def _unverified(subject: str, target: str, host: str, error: ssl.SSLCertVerificationError) -> Finding:
    reason = error.verify_message
    if "expired" in reason:
        return wrong(
            subject,
            "CERTIFICATE_EXPIRED",
            f"the certificate of {target} has expired",
            "replace the files behind tls_certificate_file and tls_key_file; they are read without a restart",
        )
    if "mismatch" in reason or "not valid for" in reason:
        return wrong(
            subject,
            "CERTIFICATE_NAME",
            f"the certificate of {target} is not for the name {host}",
            "call it by a name that the certificate has, or add the name to it",
        )
    return wrong(
        subject,
        "CERTIFICATE_UNTRUSTED",
        f"the certificate of {target} comes from nobody that we trust ({reason})",
        "use --ca FILE with the authority that signed it",
    )


def _lifetime(subject: str, target: str, until: str) -> Finding:
    left = datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC) - datetime.now(UTC)
    if left.days < _EXPIRES_SOON_DAYS:
        return warning(
            subject,
            "CERTIFICATE_EXPIRES",
            f"the certificate of {target} expires in {left.days} days",
            "renew it; the server reads new files without a restart",
        )
    return ok(subject, "REACHED", f"{target} can be reached, with a certificate for {left.days} more days")


def _speaks_tls(host: str, port: int) -> bool:
    """Tell whether a server that was asked without TLS speaks it. Whom it is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)  # TLS, but not with us
    except OSError:
        return False
