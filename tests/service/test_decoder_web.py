"""Videos at https:// URIs, from real servers on the loopback address: what is read, and what is not even asked for."""

import asyncio
import dataclasses

import grpc
import pytest

from support.decoder_calls import config, pixels_of, refusal_of, requests, running_decoder
from support.film_server import (
    Asked,
    Certificate,
    film_server,
    head,
    make_certificate,
    plain,
    ranged,
    redirect,
)
from support.videos import Clip, encode, number_of
from support.web_films import both, make_long_film, numbers, uri

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
CONTAINERS = {
    "mp4": Clip(),
    "mp4 with its index last": Clip(index_first=False),
    "mkv": Clip(container="matroska"),
    "mpegts": Clip(container="mpegts"),
    "avi": Clip(container="avi", codec="mpeg4", options={"qscale": "3"}),
}
FILM = encode(Clip())


@pytest.fixture(scope="module")
def long_film() -> bytes:
    return make_long_film()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost", addresses=("127.0.0.1",))


@pytest.mark.parametrize("serve", [ranged, lambda film: plain("200 OK", film)], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("name", CONTAINERS)
async def test_a_film_from_a_server_gives_the_frames_of_the_file(certificate, name, serve):
    film = encode(CONTAINERS[name])
    async with both(certificate) as (server, decoder):
        server.answers["/a%20film?key=1"] = serve(film)
        for order in ({"every_nth_frame": 1}, {"timestamps": [0.4, 2.3]}, {"frames_per_second": 2, "start_time": 1.1}):
            fetched = await decoder.decode(uri(server.url("/a%20film?key=1")), **order)
            whole = await decoder.decode(film, **order)
            assert fetched.frames == whole.frames
            assert fetched.summary == whole.summary
        probed = await decoder.probe(uri(server.url("/a%20film?key=1")))
        assert (probed.width, probed.codec) == (whole.video.width, whole.video.codec)
    assert {asked.headers["host"] for asked in server.asked} == {f"localhost:{server.port}"}
    assert not {"cookie", "authorization"} & {name for asked in server.asked for name in asked.headers}


async def test_of_a_long_film_only_the_wanted_part_is_fetched(certificate, long_film):
    async with both(certificate) as (server, decoder):
        server.answers["/long"] = ranged(long_film, etag='"one"')
        decoded = await decoder.decode(uri(server.url("/long")), every_nth_frame=1, start_time=12.0, end_time=12.5)
        assert numbers(decoded) == [120, 121, 122, 123, 124]
        fetched = sum(end - start for start, end in (asked.span(len(long_film)) for asked in server.asked))
        assert fetched < 0.8 * len(long_film)
        assert [asked.headers.get("if-range") for asked in server.asked[1:]] == ['"one"'] * (len(server.asked) - 1)
        server.asked.clear()
        assert numbers(await decoder.decode(uri(server.url("/long")), every_nth_frame=30)) == [0, 30, 60, 90, 120]
        spans = [asked.span(len(long_film)) for asked in server.asked]
        assert len(spans) == len(set(spans))  # nothing twice
        assert server.connections <= 2 * 4


@pytest.mark.parametrize("name", ["mp4", "mpegts"])
async def test_a_server_without_ranges_is_decoded_while_it_sends(certificate, name):
    film = encode(dataclasses.replace(CONTAINERS[name], frames=120))
    half = asyncio.Event()

    async def slow(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", content_length=len(film)) + film[: len(film) * 3 // 4])
        await half.wait()
        writer.write(film[len(film) * 3 // 4 :])

    async with both(certificate) as (server, decoder):
        server.answers["/slow"] = slow
        call = decoder.stub.DecodeFrames(requests(config(uri(server.url("/slow")), every_nth_frame=1)), timeout=20)
        responses = aiter(call)
        assert (await anext(responses)).HasField("video")
        assert number_of(pixels_of((await anext(responses)).frame)) == 0
        half.set()
        assert [response async for response in responses][-1].summary.frames_sent == 120


# Who may be asked


async def test_without_a_setting_no_server_is_asked(certificate):
    async with both(certificate, https_hosts=()) as (server, decoder):
        refusal = refusal_of((await decoder.try_decode(uri(server.url("/film")))).error)
        assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_REQUEST", ("config.source.uri",))
    assert server.connections == 0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"https_hosts": ("films.example", "*.localhost")}, "HOST_NOT_ALLOWED"),
        ({"https_ports": (443,)}, "PORT_NOT_ALLOWED"),
        ({"https_networks": ()}, "ADDRESS_NOT_ALLOWED"),
        ({"https_networks": ("10.0.0.0/8",), "https_hosts": ("*",)}, "ADDRESS_NOT_ALLOWED"),
    ],
)
async def test_what_the_operator_did_not_allow_is_not_connected_to(certificate, settings, reason):
    async with both(certificate, **settings) as (server, decoder):
        for host in ("localhost", "127.0.0.1"):
            decoded = await decoder.try_decode(uri(server.url("/film", host)))
            refusal = refusal_of(decoded.error)
            assert (refusal.code, refusal.reason) == (DENIED, reason)
            assert "127.0.0.1" not in decoded.error.details()
    assert server.connections == 0


INSIDE = (
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "0.0.0.0",
)


@pytest.mark.parametrize("host", INSIDE)
async def test_no_spelling_of_an_inner_address_is_connected_to(certificate, host):
    async with both(certificate, https_networks=(), https_hosts=("*",)) as (canary, decoder):
        decoded = await decoder.try_decode(uri(f"https://{host}:{canary.port}/film"))
        assert refusal_of(decoded.error).code in {DENIED, UNAVAILABLE}  # the system may not know a spelling at all
    assert canary.connections == 0


REDIRECTED = {
    "to another host": ("https://other.example/", "HOST_NOT_ALLOWED"),
    "to the metadata of a cloud": ("https://169.254.169.254:{port}/latest", "HOST_NOT_ALLOWED"),
    "to another port": ("https://localhost:1/", "PORT_NOT_ALLOWED"),
    "to plain http": ("http://localhost:{port}/film", "REDIRECT_DENIED"),
    "to a file": ("file:///etc/passwd", "REDIRECT_DENIED"),
    "with a password": ("https://a:b@localhost:{port}/film", "REDIRECT_DENIED"),
    "nowhere": ("", "TOO_MANY_REDIRECTS"),
}


@pytest.mark.parametrize("name", REDIRECTED)
async def test_a_redirect_is_held_to_the_same_rules(certificate, name):
    target, reason = REDIRECTED[name]
    async with both(certificate, plain_http=True) as (server, decoder):
        server.answers["/go"] = redirect(target.format(port=server.port))
        server.answers["/film"] = ranged(FILM)
        refusal = refusal_of((await decoder.try_decode(uri(server.url("/go")))).error)
    assert refusal.reason == reason
    assert refusal.code == (INVALID if reason == "TOO_MANY_REDIRECTS" else DENIED)
    assert {asked.path for asked in server.asked} == {"/go"}


@pytest.mark.parametrize(("address", "host"), [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")])
async def test_a_redirect_to_an_address_outside_the_allowed_networks_is_not_followed(certificate, address, host):
    allowed = {"https_hosts": ("*",), "https_networks": ("127.0.0.1/32",)}
    async with film_server(certificate, address) as canary, film_server(certificate, "127.0.0.1") as server:
        server.answers["/go"] = redirect(f"https://{host}:{canary.port}/film")
        ports = (server.port, canary.port)
        async with running_decoder(https_ports=ports, https_ca_file=certificate.certificate_file, **allowed) as decoder:
            refusal = refusal_of((await decoder.try_decode(uri(server.url("/go", "127.0.0.1")))).error)
    assert (refusal.code, refusal.reason) == (DENIED, "ADDRESS_NOT_ALLOWED")
    assert [asked.path for asked in server.asked] == ["/go"]
    assert canary.connections == 0


async def test_good_redirects_are_followed_a_few_times(certificate):
    async with both(certificate) as (server, decoder):
        server.answers |= {
            "/1": redirect("/2", "301 Moved Permanently"),
            "/2": redirect(f"https://127.0.0.1:{server.port}/3", "307 Temporary Redirect"),
            "/3": redirect("film#part", "308 Permanent Redirect"),
            "/film": ranged(FILM),
            "/circle": redirect("/circle"),
        }
        assert len((await decoder.decode(uri(server.url("/1")))).frames) == 15
        server.asked.clear()
        assert refusal_of((await decoder.try_decode(uri(server.url("/circle")))).error).reason == "TOO_MANY_REDIRECTS"
        assert len(server.asked) == 6


async def test_a_certificate_for_another_name_is_not_trusted(certificate, tmp_path):
    other = make_certificate(tmp_path, "films.example")
    async with both(other, https_ca_file=other.certificate_file) as (server, decoder):
        server.answers["/film"] = ranged(FILM)
        refusal = refusal_of((await decoder.try_decode(uri(server.url("/film")))).error)
    assert (refusal.code, server.asked) == (UNAVAILABLE, [])


async def test_plain_http_is_asked_only_if_the_operator_says_so(certificate):
    async with film_server(None) as server:
        server.answers["/film"] = ranged(FILM)
        options = {
            "https_hosts": ("localhost",),
            "https_ports": (server.port,),
            "https_networks": ("127.0.0.0/8", "::1/128"),
        }
        source = uri(f"http://localhost:{server.port}/film")
        async with running_decoder(**options) as decoder:
            assert refusal_of((await decoder.try_decode(source)).error).reason == "INVALID_REQUEST"
            assert server.connections == 0
        async with running_decoder(**options, plain_http=True) as decoder:
            assert len((await decoder.decode(source)).frames) == 15
