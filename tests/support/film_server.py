"""A real HTTPS server of films on the loopback address, which can misbehave in all the ways that it is told to."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]  # names in lower case

    def span(self, size: int) -> tuple[int, int] | None:
        """Return the range that is asked for, if any: the first byte and the one after the last."""
        kind, _, span = self.headers.get("range", "").partition("=")
        if kind != "bytes":
            return None
        first, _, last = span.partition("-")
        return int(first), min(int(last) + 1, size)


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FilmServer:
    """What is served at which path, and what was asked for."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"


def head(status: str, **headers: object) -> bytes:
    """Return the head of an answer; `content_length=3` is the header Content-Length."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def plain(status: str, body: bytes = b"", **headers: object) -> Answer:
    """Answer always the same."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, content_length=len(body), **headers) + body)

    return answer


def ranged(film: bytes, **headers: object) -> Answer:
    """Answer as a server that knows ranges does."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        span = asked.span(len(film))
        if span is None:
            writer.write(head("200 OK", content_length=len(film), **headers) + film)
            return
        start, end = span
        place = {"content_range": f"bytes {start}-{end - 1}/{len(film)}"}
        writer.write(head("206 Partial Content", content_length=end - start, **place, **headers) + film[start:end])

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Answer each request in another way, and the last way for ever."""
    left = list(answers)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, writer)

    return answer


def redirect(target: str, status: str = "302 Found") -> Answer:
    return plain(status, location=target)


@contextlib.asynccontextmanager
async def film_server(certificate: "Certificate | None", host: str = "127.0.0.1") -> AsyncIterator[FilmServer]:
    """Serve inside; without a certificate over plain HTTP."""
    server = FilmServer()
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        server.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = (line.partition(": ") for line in lines[1:] if line)
                asked = Asked(lines[0].split()[1], {name.lower(): value for name, _, value in pairs})
                server.asked.append(asked)
                await server.answers.get(asked.path, plain("404 Not Found"))(asked, writer)
                await writer.drain()
        writer.close()
        handlers.discard(task)

    tls = certificate.server_context() if certificate is not None else None
    listener = await asyncio.start_server(handle, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@dataclass(frozen=True)
class Certificate:
    """A certificate that vouches for itself, and its key: PEM files."""

    certificate_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def make_certificate(folder: Path, *names: str, addresses: tuple[str, ...] = ()) -> Certificate:
    """Make a certificate for these names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "films")])
    now = dt.datetime.now(dt.UTC)
    held = [x509.DNSName(each) for each in names]
    held += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(held), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "films.pem", folder / "films.key")
    made.certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
