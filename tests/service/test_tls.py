"""TLS of servers and of the calls between them: real certificates on real sockets."""

import asyncio
import contextlib
import hashlib
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest

from shoppable.client.channels import TlsFiles, open_channel
from shoppable.runtime.peers import PeerFiles, RenewedChannel, peer_files
from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.tls import ServerFiles, server_files
from shoppable.runtime.watched_files import ConfigurationError
from shoppable.v1 import frame_decoder_pb2, frame_decoder_pb2_grpc
from support.certificates import Authority, Pair
from support.scripted import scripted

LIMIT_S = 20


class Answering(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    def __init__(self) -> None:
        self.peers: list[list[bytes]] = []
        self.release = asyncio.Event()
        self.release.set()

    async def ProbeVideo(self, request, context):
        self.peers.append(list(context.auth_context().get("x509_subject_alternative_name", ())))
        await self.release.wait()
        return frame_decoder_pb2.ProbeVideoResponse()


@contextlib.asynccontextmanager
async def served(pair: Pair, *, clients_from: Authority | None = None, **settings):
    servicer = Answering()
    files = {"tls_certificate_file": pair.certificate, "tls_key_file": pair.key}
    if clients_from:
        files["tls_client_ca_file"] = clients_from.roots
    async with scripted("FrameDecoderService", servicer, **files, **settings) as (_, address):
        yield servicer, address.replace("127.0.0.1", "localhost")


async def probe(address: str, tls: TlsFiles | None) -> None:
    async with open_channel(address, tls=tls) as channel:
        await ask(channel)


async def ask(channel: grpc.aio.Channel) -> None:
    stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
    await stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest(), timeout=LIMIT_S)


async def refused(address: str, tls: TlsFiles | None) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await probe(address, tls)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def serial_of(address: str, roots: Path) -> str:
    """Return the number of the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(roots))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        return connection.getpeercert()["serialNumber"]


async def until(condition) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await condition():
            await asyncio.sleep(0.1)


async def test_a_server_with_a_certificate_speaks_tls_and_nothing_else(tmp_path: Path):
    authority = Authority(tmp_path)
    async with served(authority.issue("localhost")) as (_, address):
        await probe(address, TlsFiles(authority.roots))
        await refused(address, None)


async def test_a_server_of_another_authority_is_not_believed(tmp_path: Path):
    async with served(Authority(tmp_path).issue("localhost")) as (_, address):
        await refused(address, TlsFiles(Authority(tmp_path, "other").roots))


@pytest.mark.parametrize(("names", "expired"), [(["elsewhere.example"], False), (["localhost"], True)])
async def test_a_certificate_for_another_name_or_time_is_not_believed(tmp_path: Path, names, expired):
    authority = Authority(tmp_path)
    async with served(authority.issue(*names, expired=expired)) as (_, address):
        await refused(address, TlsFiles(authority.roots))


async def test_mutual_tls_takes_clients_of_its_authority_only(tmp_path: Path):
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    client, stranger = ours.issue("web-shop.example", file="client"), other.issue("web-shop.example", file="client")
    late = ours.issue("web-shop.example", file="late", expired=True)
    async with served(ours.issue("localhost"), clients_from=ours) as (servicer, address):
        await probe(address, TlsFiles(ours.roots, client.certificate, client.key))
        await refused(address, TlsFiles(ours.roots))
        await refused(address, TlsFiles(ours.roots, stranger.certificate, stranger.key))
        await refused(address, TlsFiles(ours.roots, late.certificate, late.key))
    assert servicer.peers == [[b"web-shop.example"]]


async def test_a_new_certificate_is_shown_to_new_connections_without_a_restart(tmp_path: Path):
    authority = Authority(tmp_path)
    async with (
        served(authority.issue("localhost")) as (_, address),
        open_channel(address, tls=TlsFiles(authority.roots)) as standing,
    ):
        await ask(standing)
        before = await asyncio.to_thread(serial_of, address, authority.roots)
        authority.issue("localhost")

        async def shows_another() -> bool:
            return await asyncio.to_thread(serial_of, address, authority.roots) != before

        await until(shows_another)
        await ask(standing)


async def test_a_crowd_that_knocks_and_goes_does_no_harm(tmp_path: Path):
    """gRPC's threads ask for the certificate at each handshake, several at a time; a slip there ends the process."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.roots))

    def knock(address: str) -> None:
        host, _, port = address.rpartition(":")
        for _ in range(10):
            with socket.create_connection((host, int(port)), timeout=LIMIT_S):
                pass
            # Without ALPN: a TLS client that does not speak HTTP/2.
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=LIMIT_S) as plain:
                context.wrap_socket(plain, server_hostname=host).close()

    async with served(authority.issue("localhost")) as (_, address):
        knocking = [asyncio.to_thread(knock, address) for _ in range(4)]
        authority.issue("localhost")
        await asyncio.gather(*knocking)
        await probe(address, TlsFiles(authority.roots))


async def test_a_broken_new_certificate_leaves_the_old_one_in_force(tmp_path: Path):
    authority = Authority(tmp_path)
    pair = authority.issue("localhost")
    async with served(pair) as (_, address):
        pair.certificate.write_text("half a certificate")
        await asyncio.sleep(1.1)  # past the time for which files are not looked at again
        await probe(address, TlsFiles(authority.roots))
        await probe(address, TlsFiles(authority.roots))


async def test_an_outgoing_channel_takes_up_new_certificates_and_calls_in_work_go_on(tmp_path: Path):
    authority = Authority(tmp_path)
    mine = authority.issue("first.example", file="client")
    settings = ServerSettings(
        peer_ca_file=authority.roots, peer_certificate_file=mine.certificate, peer_key_file=mine.key
    )
    files = peer_files(settings)
    assert files is not None
    async with served(authority.issue("localhost"), clients_from=authority) as (servicer, address):
        tls = TlsFiles(files.roots, files.certificate, files.key)
        async with RenewedChannel(lambda: open_channel(address, tls=tls), files) as channel:
            stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)  # made once, as the services do
            servicer.release.clear()
            running = asyncio.ensure_future(stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest()))

            async def arrived() -> bool:
                return len(servicer.peers) == 1

            await until(arrived)
            authority.issue("second.example", file="client")

            async def second_is_seen() -> bool:
                call = stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest())
                await asyncio.sleep(0.3)
                call.cancel()
                return [b"second.example"] in servicer.peers

            await until(second_is_seen)
            servicer.release.set()
            assert await asyncio.wait_for(running, LIMIT_S) == frame_decoder_pb2.ProbeVideoResponse()
            assert servicer.peers[0] == [b"first.example"]


def test_files_that_do_not_belong_together_are_named(tmp_path: Path):
    authority = Authority(tmp_path)
    one, two = authority.issue("localhost", file="one"), authority.issue("localhost", file="two")
    with pytest.raises(ConfigurationError, match="no certificate with its unencrypted key"):
        PeerFiles(ServerSettings(peer_certificate_file=one.certificate, peer_key_file=two.key))
    with pytest.raises(ConfigurationError, match="peer_key_file"):
        PeerFiles(ServerSettings(peer_certificate_file=one.certificate))
    with pytest.raises(ConfigurationError, match=r"no PEM certificates"):
        PeerFiles(ServerSettings(peer_ca_file=one.key))
    with pytest.raises(ConfigurationError, match=r"gone\.pem: No such file"):
        PeerFiles(ServerSettings(peer_ca_file=tmp_path / "gone.pem"))


def test_grpc_is_given_a_certificate_once_and_again_when_it_is_new(tmp_path: Path):
    """The same one at each handshake makes gRPC replace what other handshakes use: under load, that crashed it."""
    authority = Authority(tmp_path)
    pair = authority.issue("localhost")
    files = ServerFiles(server_files(pair.certificate, pair.key, None, look_every_s=0))
    assert files.configuration() is not None
    assert [files.newer_configuration() for _ in range(3)] == [None] * 3
    authority.issue("localhost")
    assert files.newer_configuration() is not None
    assert files.newer_configuration() is None


async def test_the_recipe_for_certificates_and_keys_on_the_operators_page_works(tmp_path: Path):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    page = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    recipes = [text for language, text in blocks if not language and text.startswith("openssl ")]
    assert len(recipes) == 2
    for recipe in recipes:
        subprocess.run(["bash", "-euc", recipe], cwd=tmp_path, check=True, capture_output=True)
    key = (tmp_path / "service.key").read_text()
    (tmp_path / "callers.toml").write_text(
        f'[callers.suite]\nsha256 = ["{hashlib.sha256(key.encode()).hexdigest()}"]\nrpcs = ["shoppable.v1.*"]\n'
    )
    pair = Pair(tmp_path / "tls.pem", tmp_path / "tls.key")
    async with (
        served(pair, auth_callers_file=tmp_path / "callers.toml") as (_, address),
        open_channel(address, tls=TlsFiles(tmp_path / "ca.pem")) as channel,
    ):
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        await stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest(), metadata=[("x-api-key", key)], timeout=LIMIT_S)
