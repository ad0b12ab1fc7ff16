"""Videos at https:// URIs, from real servers on the loopback address: what is read, and what is not even asked for."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from shoppable.v1 import common_pb2
from support.decoder_calls import Decoded, Decoder, config, pixels_of, refusal_of, requests, running_decoder
from support.film_server import (
    Answer,
    Asked,
    Certificate,
    FilmServer,
    film_server,
    head,
    in_turn,
    make_certificate,
    plain,
    ranged,
    redirect,
)
from support.videos import Clip, draw, encode, number_of

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


def noisy(number: int, width: int, height: int):
    """Draw a frame that does not become small by encoding."""
    picture = draw(number, width, height)
    picture[height // 2 :] = np.random.default_rng(number).integers(0, 255, picture[height // 2 :].shape)
    return picture


@pytest.fixture(scope="module")
def long_film() -> bytes:
    film = encode(Clip(frames=150, size=(320, 240), gop=10, draw=noisy, options={"preset": "ultrafast"}))
    assert len(film) > 6 * 2**20
    return film


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost", addresses=("127.0.0.1",))


@contextlib.asynccontextmanager
async def both(certificate: Certificate, **settings: object) -> AsyncIterator[tuple[FilmServer, Decoder]]:
    """Run a server of films and a decoder that may ask it."""
    async with film_server(certificate) as server:
        options = {
            "https_hosts": ("localhost", "127.0.0.1"),
            "https_ports": (server.port,),
            "https_networks": ("127.0.0.0/8", "::1/128"),
            "https_ca_file": certificate.certificate_file,
            "max_streams": 1,
        }
        async with running_decoder(**(options | settings)) as decoder:
            yield server, decoder


def uri(text: str) -> common_pb2.VideoSource:
    return common_pb2.VideoSource(uri=text)


def numbers(decoded: Decoded) -> list[int]:
    return [number_of(pixels_of(frame)) for frame in decoded.frames]


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


# What servers do


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("404 Not Found", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("410 Gone", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("401 Unauthorized", DENIED, "REMOTE_DENIED"),
        ("403 Forbidden", DENIED, "REMOTE_DENIED"),
        ("400 Bad Request", INVALID, "REMOTE_REFUSED"),
        ("204 No Content", INVALID, "REMOTE_REFUSED"),
        ("416 Range Not Satisfiable", UNAVAILABLE, "REMOTE_UNAVAILABLE"),
        ("429 Too Many Requests", UNAVAILABLE, "REMOTE_UNAVAILABLE"),
        ("500 Internal Server Error", UNAVAILABLE, "REMOTE_UNAVAILABLE"),
    ],
)
async def test_each_answer_has_its_own_error(certificate, status, code, reason):
    async with both(certificate) as (server, decoder):
        server.answers["/film"] = plain(status)
        refusal = refusal_of((await decoder.try_decode(uri(server.url("/film")))).error)
    assert (refusal.code, refusal.reason) == (code, reason)
    assert len(server.asked) == (3 if code is UNAVAILABLE else 1)


async def broken_off(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("failure", [plain("503 Service Unavailable"), broken_off], ids=["busy", "broken off"])
async def test_a_server_that_stumbles_is_asked_again(certificate, failure, long_film):
    async with both(certificate) as (server, decoder):
        good = ranged(long_film)
        server.answers["/film"] = in_turn(failure, good, good, failure, failure, good, good, failure, good)
        decoded = await decoder.decode(uri(server.url("/film")), every_nth_frame=15)
    assert numbers(decoded) == list(range(0, 150, 15))


async def test_a_server_that_asks_for_time_is_asked_no_earlier(certificate):
    async with both(certificate) as (server, decoder):
        server.answers["/film"] = in_turn(plain("429 Too Many Requests", retry_after="2"), ranged(FILM))
        began = asyncio.get_running_loop().time()
        assert len((await decoder.decode(uri(server.url("/film")))).frames) == 15
        assert asyncio.get_running_loop().time() - began >= 2


async def test_a_server_that_fails_half_way_ends_the_call_after_its_frames(certificate, long_film):
    """It asks for more time than a piece may take, so that it is not asked again."""
    async with both(certificate, remote_request_s=5.0) as (server, decoder):
        good = ranged(long_film)
        server.answers["/film"] = in_turn(good, good, good, good, plain("503 Service Unavailable", retry_after="7"))
        decoded = await decoder.try_decode(uri(server.url("/film")), every_nth_frame=1)
    assert 5 < len(decoded.frames) < 150
    assert refusal_of(decoded.error).code == UNAVAILABLE
    retries = [detail for detail in rpc_status.from_call(decoded.error).details if "RetryInfo" in detail.type_url]
    assert error_details_pb2.RetryInfo.FromString(retries[0].value).retry_delay.seconds == 7


CHANGED = {
    "another etag": lambda film: ranged(film, etag='"two"'),
    "another size": lambda film: ranged(film + bytes(10), etag='"one"'),
    "the whole of another": lambda film: plain("200 OK", film),
}


@pytest.mark.parametrize("name", CHANGED)
async def test_a_film_that_changes_while_it_is_read_ends_the_call(certificate, long_film, name):
    async with both(certificate) as (server, decoder):
        good = ranged(long_film, etag='"one"')
        server.answers["/film"] = in_turn(good, good, good, good, CHANGED[name](long_film))
        decoded = await decoder.try_decode(uri(server.url("/film")), every_nth_frame=1)
    refusal = refusal_of(decoded.error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "SOURCE_CHANGED")
    assert len(decoded.frames) < 150


async def trickle(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Send the head byte by byte, always in time."""
    for byte in head("200 OK", x="y" * 1000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def stalled(answer_head: bytes, *, drip: bool) -> Answer:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_head + FILM[:100])
        while True:
            await writer.drain()
            await asyncio.sleep(0.05)
            if drip:
                writer.write(b"\0")

    return answer


PARTIAL = head("206 Partial Content", content_length=2**20, content_range=f"bytes 0-{2**20 - 1}/{2**21}")
WHOLE = head("200 OK", content_length=5000)
TARPITS = {
    "a head byte by byte": (trickle, "REMOTE_UNAVAILABLE"),
    "no answer": (silent, "REMOTE_UNAVAILABLE"),
    "a body that stops": (stalled(PARTIAL, drip=False), "REMOTE_UNAVAILABLE"),
    "a body byte by byte": (stalled(PARTIAL, drip=True), "REMOTE_UNAVAILABLE"),
    "a body without ranges that stops": (
        stalled(WHOLE, drip=False),
        "REMOTE_UNAVAILABLE",
    ),
    "a body without ranges byte by byte": (stalled(WHOLE, drip=True), "REMOTE_TOO_SLOW"),
}


@pytest.mark.parametrize("name", TARPITS)
async def test_a_tarpit_is_left_in_time(certificate, name):
    answer, reason = TARPITS[name]
    limits = {"remote_header_s": 0.3, "remote_stall_s": 0.3, "remote_request_s": 0.6, "remote_total_s": 1.0}
    async with both(certificate, **limits, remote_attempts=2) as (server, decoder):
        server.answers["/film"] = answer
        async with asyncio.timeout(5):
            decoded = await decoder.try_decode(uri(server.url("/film")))
        assert refusal_of(decoded.error).reason == reason
        assert len((await decoder.decode(FILM)).frames) == 15


async def endless(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", transfer_encoding="chunked"))
    while True:
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


async def test_a_body_without_end_is_cut_off_at_the_limit(certificate):
    async with both(certificate, max_upload_bytes=3_000_000) as (server, decoder):
        server.answers["/film"] = endless
        refusal = refusal_of((await decoder.try_decode(uri(server.url("/film")))).error)
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "SIZE_LIMIT", ("config.source.uri",))
    assert refusal.metadata["limit"] == "3000000"


async def long_answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(head("206 Partial Content", transfer_encoding="chunked", content_range=f"bytes 0-999/{1000}"))
    while True:
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


def said(content_range: str, size: int) -> Answer:
    return plain("206 Partial Content", FILM[:size], content_range=content_range)


WRONG_ANSWERS = {
    "a range without end": (long_answer, "REMOTE_UNAVAILABLE"),
    "another range": (said(f"bytes 5-{len(FILM) - 1}/{len(FILM)}", len(FILM) - 5), "REMOTE_UNAVAILABLE"),
    "a shorter range": (said(f"bytes 0-99/{len(FILM)}", 100), "REMOTE_UNAVAILABLE"),
    "fewer bytes than it says": (said(f"bytes 0-{len(FILM) - 1}/{len(FILM)}", 100), "REMOTE_UNAVAILABLE"),
    "no word of the range": (plain("206 Partial Content", FILM), "REMOTE_UNAVAILABLE"),
    "no size": (said(f"bytes 0-{len(FILM) - 1}/*", len(FILM)), "REMOTE_UNAVAILABLE"),
    "compressed": (ranged(FILM, content_encoding="gzip"), "CONTENT_ENCODED"),
    "too many bytes": (said(f"bytes 0-{2**20 - 1}/99999999999999", 0), "SIZE_LIMIT"),
    "nothing": (plain("200 OK"), "NOT_A_VIDEO"),
    "no HTTP at all": (lambda asked, writer: _say(writer, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "REMOTE_UNAVAILABLE"),
    "a head without end": (
        lambda asked, writer: _say(writer, b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10**6),
        "REMOTE_UNAVAILABLE",
    ),
}


async def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@pytest.mark.parametrize("name", WRONG_ANSWERS)
async def test_a_server_that_answers_nonsense_is_told_apart(certificate, name):
    answer, reason = WRONG_ANSWERS[name]
    async with both(certificate, remote_request_s=5.0) as (server, decoder):
        server.answers["/film"] = answer
        assert refusal_of((await decoder.try_decode(uri(server.url("/film")))).error).reason == reason


@pytest.mark.parametrize("serve", [ranged, lambda film: plain("200 OK", film)], ids=["ranges", "no ranges"])
async def test_a_call_that_is_given_up_lets_go_of_the_server(certificate, serve, long_film):
    async with both(certificate) as (server, decoder):
        waiting = asyncio.Event()

        async def stuck(asked: Asked, writer: asyncio.StreamWriter) -> None:
            waiting.set()
            await asyncio.Event().wait()

        server.answers["/film"] = in_turn(ranged(long_film), stuck)
        call = decoder.stub.DecodeFrames(requests(config(uri(server.url("/film")), every_nth_frame=1)), timeout=20)
        await waiting.wait()
        call.cancel()
        async with asyncio.timeout(3):
            while (again := await decoder.try_decode(FILM)).error is not None:
                assert refusal_of(again.error).reason == "DECODER_BUSY"
                await asyncio.sleep(0.02)
