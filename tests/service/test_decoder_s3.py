"""Videos at s3:// URIs, from a server on the loopback address that speaks S3."""

import logging
from collections.abc import Iterator

import boto3
import grpc
import pytest
from moto.server import ThreadedMotoServer

from shoppable.v1 import common_pb2
from support.decoder_calls import pixels_of, refusal_of, running_decoder
from support.videos import Clip, encode, number_of

DENIED = grpc.StatusCode.PERMISSION_DENIED
FILM = encode(Clip(index_first=False))
LONG = FILM + b"\0\0\0\x08free" + bytes(3 * 2**20)  # bytes that no frame is in
KEYS = {"films/a film.mp4": FILM, "films/ä%.mp4": FILM, "long.mp4": LONG, "text": b"no video" * 100, "empty": b""}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    for bucket in ("films", "private"):
        client.create_bucket(Bucket=bucket)
        for key, data in KEYS.items():
            access = "public-read" if bucket == "films" else "private"
            client.put_object(Bucket=bucket, Key=key, Body=data, ACL=access)
    yield url
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def decoder_of(endpoint: str, **settings: object):
    return running_decoder(**({"s3_buckets": ("films",), "s3_endpoint": endpoint, "remote_attempts": 2} | settings))


def uri(text: str) -> common_pb2.VideoSource:
    return common_pb2.VideoSource(uri=text)


@pytest.mark.parametrize("name", ["films/a%20film.mp4", "films/%C3%A4%25.mp4", "long.mp4"])
@pytest.mark.parametrize("anonymous", [False, True])
async def test_an_object_gives_the_frames_of_the_file(endpoint, name, anonymous):
    async with decoder_of(endpoint, s3_anonymous=anonymous) as decoder:
        fetched = await decoder.decode(uri(f"s3://films/{name}"), every_nth_frame=1)
        whole = await decoder.decode(FILM, every_nth_frame=1)
        assert [number_of(pixels_of(frame)) for frame in fetched.frames] == list(range(30))
        assert fetched.frames == whole.frames
        later = await decoder.decode(uri(f"s3://films/{name}"), timestamps=[2.0])
        assert number_of(pixels_of(later.frames[0])) == 20
        assert (await decoder.probe(uri(f"s3://films/{name}"))).size_bytes == fetched.video.size_bytes


REFUSED = {
    "no such object": ("s3://films/none.mp4", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    "another bucket": ("s3://private/long.mp4", DENIED, "BUCKET_NOT_ALLOWED"),
    "no such bucket": ("s3://nowhere/long.mp4", DENIED, "BUCKET_NOT_ALLOWED"),
    "no video": ("s3://films/text", grpc.StatusCode.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "nothing": ("s3://films/empty", grpc.StatusCode.INVALID_ARGUMENT, "NOT_A_VIDEO"),
    "no key": ("s3://films/", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    "a way out": ("s3://films/%2e%2e/private/long.mp4", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_had_has_its_own_error(endpoint, name):
    text, code, reason = REFUSED[name]
    async with decoder_of(endpoint) as decoder:
        refusal = refusal_of((await decoder.try_decode(uri(text))).error)
    assert (refusal.code, refusal.reason) == (code, reason)


async def test_an_object_that_the_bucket_does_not_hand_out_is_denied(endpoint):
    async with decoder_of(endpoint, s3_buckets=("private",), s3_anonymous=True) as decoder:
        refusal = refusal_of((await decoder.try_decode(uri("s3://private/long.mp4"))).error)
    assert (refusal.code, refusal.reason) == (DENIED, "REMOTE_DENIED")


async def test_an_object_over_the_limit_is_refused_with_limit_and_value(endpoint):
    async with decoder_of(endpoint, max_file_bytes=1_000_000) as decoder:
        refusal = refusal_of((await decoder.try_decode(uri("s3://films/long.mp4"))).error)
    assert (refusal.reason, refusal.fields) == ("SIZE_LIMIT", ("config.source.uri",))
    assert refusal.metadata == {"limit": "1000000", "value": str(len(LONG))}


async def test_without_a_setting_no_bucket_is_read(endpoint):
    async with decoder_of(endpoint, s3_buckets=()) as decoder:
        refusal = refusal_of((await decoder.try_decode(uri("s3://films/long.mp4"))).error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_a_server_that_is_away_is_unavailable():
    limits = {"remote_header_s": 1.0, "remote_request_s": 2.0}
    async with decoder_of("http://127.0.0.1:9", **limits) as decoder:
        refusal = refusal_of((await decoder.try_decode(uri("s3://films/long.mp4"))).error)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "REMOTE_UNAVAILABLE")
