"""What web servers do wrong, and what a call that reads a video from them ends with."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support.decoder_calls import config, refusal_of, requests
from support.film_server import (
    Answer,
    Asked,
    Certificate,
    head,
    in_turn,
    make_certificate,
    plain,
    ranged,
)
from support.videos import Clip, encode
from support.web_films import both, make_long_film, numbers, uri

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
FILM = encode(Clip())


@pytest.fixture(scope="module")
def long_film() -> bytes:
    return make_long_film()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost", addresses=("127.0.0.1",))


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
