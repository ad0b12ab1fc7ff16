"""Requests that make no sense are refused with every violation; so are uploads and paths that are not what they say."""

import os

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from shoppable.v1 import common_pb2, frame_decoder_pb2
from support.decoder_calls import Decoder, chunks_of, config, refusal_of, requests, rest_of, running_decoder
from support.decoder_resources import tidy_decoder
from support.videos import Clip, encode

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FILM = encode(Clip())
Source = common_pb2.VideoSource
Request = frame_decoder_pb2.DecodeFramesRequest
SECONDS = Duration(seconds=1)


@pytest.fixture
async def decoder(tmp_path):
    async with tidy_decoder(tmp_path, max_pixels=1920 * 1080, max_upload_bytes=1_000_000) as decoder:
        yield decoder


BAD_CONFIGS = {
    "no source": (config(Source()), ["config.source"]),
    "an empty video": (config(b""), ["config.source.inline_bytes"]),
    "another scheme": (config(Source(uri="https://example.com/a.mp4")), ["config.source.uri"]),
    "negative start": (config(FILM, start_time=Duration(seconds=-1)), ["config.start_time"]),
    "negative nanos": (config(FILM, end_time=Duration(nanos=-1)), ["config.end_time"]),
    "end before start": (config(FILM, start_time=2.0, end_time=1.0), ["config.end_time"]),
    "end at start": (config(FILM, start_time=SECONDS, end_time=SECONDS), ["config.end_time"]),
    "end at zero": (config(FILM, end_time=Duration()), ["config.end_time"]),
    "no rate": (config(FILM, frames_per_second=0.0), ["config.sampling.frames_per_second"]),
    "a rate that is no number": (config(FILM, frames_per_second=float("nan")), ["config.sampling.frames_per_second"]),
    "an endless rate": (config(FILM, frames_per_second=float("inf")), ["config.sampling.frames_per_second"]),
    "every 0th": (config(FILM, every_nth_frame=0), ["config.sampling.every_nth_frame"]),
    "every 100001st": (config(FILM, every_nth_frame=100_001), ["config.sampling.every_nth_frame"]),
    "no side": (config(FILM, longest_side=0), ["config.longest_side"]),
    "a long side": (config(FILM, longest_side=8193), ["config.longest_side"]),
    "png": (config(FILM, output_format=common_pb2.IMAGE_FORMAT_PNG), ["config.output_format"]),
    "an unknown format": (config(FILM, output_format=99), ["config.output_format"]),
    "no quality": (config(FILM, jpeg_quality=0), ["config.jpeg_quality"]),
    "an upload of nothing": (
        config(Source(upload=common_pb2.VideoUpload(total_bytes=0))),
        ["config.source.upload.total_bytes"],
    ),
    "an upload too large": (
        config(Source(upload=common_pb2.VideoUpload(total_bytes=1_000_001))),
        ["config.source.upload.total_bytes"],
    ),
    "everything at once": (
        config(
            Source(uri="ftp://x/y"),
            frames_per_second=500,
            start_time=Duration(seconds=-3),
            longest_side=3,
            jpeg_quality=101,
            output_format=common_pb2.IMAGE_FORMAT_WEBP,
        ),
        [
            "config.jpeg_quality",
            "config.longest_side",
            "config.output_format",
            "config.sampling.frames_per_second",
            "config.source.uri",
            "config.start_time",
        ],
    ),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
async def test_a_bad_config_is_refused_with_every_violation(decoder: Decoder, name):
    bad, fields = BAD_CONFIGS[name]
    refusal = refusal_of((await decoder.converse(requests(bad))).error)
    assert (refusal.code, refusal.reason, list(refusal.fields)) == (INVALID, "INVALID_REQUEST", fields)


async def test_inline_bytes_over_the_limit_are_refused():
    async with running_decoder(max_inline_bytes=1000) as decoder:
        refusal = refusal_of((await decoder.try_decode(FILM)).error)
        assert (refusal.code, refusal.fields) == (INVALID, ("config.source.inline_bytes",))


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (Source(), "source"),
        (Source(inline_bytes=b""), "source.inline_bytes"),
        (Source(uri="concat:a|b"), "source.uri"),
        (Source(upload=common_pb2.VideoUpload()), "source.upload"),
    ],
)
async def test_a_probe_without_a_good_source_is_refused(decoder: Decoder, source, field):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await decoder.probe(source)
    assert (refusal_of(caught.value).code, refusal_of(caught.value).fields) == (INVALID, (field,))


async def send(*messages: Request):
    for message in messages:
        yield message


WRONG_ORDERS = {
    "nothing": ([], "config"),
    "an empty message first": ([Request()], "config"),
    "a chunk first": ([Request(chunk=b"x"), Request(config=config(FILM))], "config"),
    "two configs": (
        [Request(config=config(Source(upload=common_pb2.VideoUpload()))), Request(config=config(FILM))],
        "config",
    ),
    "an empty message later": ([Request(config=config(Source(upload=common_pb2.VideoUpload()))), Request()], "request"),
}


@pytest.mark.parametrize("name", WRONG_ORDERS)
async def test_messages_in_the_wrong_order_are_refused(decoder: Decoder, name):
    messages, field = WRONG_ORDERS[name]
    refusal = refusal_of((await decoder.converse(send(*messages))).error)
    assert (refusal.code, refusal.fields) == (INVALID, (field,))


@pytest.mark.parametrize(("extra", "field"), [(Request(chunk=b"x"), "chunk"), (Request(config=config(FILM)), "config")])
async def test_more_messages_than_the_config_are_refused_if_nothing_is_uploaded(decoder: Decoder, extra, field):
    long = encode(Clip(frames=400, size=(640, 480), options={"preset": "ultrafast"}))
    call = decoder.stub.DecodeFrames(timeout=20)
    await call.write(Request(config=config(long, every_nth_frame=1)))
    await call.read()
    await call.write(extra)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest_of(call)
    assert refusal_of(caught.value).fields == (field,)


@pytest.mark.parametrize(("total", "reason"), [(len(FILM) + 1, "SIZE_MISMATCH"), (len(FILM) - 1, "SIZE_MISMATCH")])
async def test_an_upload_of_another_size_than_announced_is_refused(decoder: Decoder, total, reason):
    refusal = refusal_of((await decoder.upload(FILM, total_bytes=total)).error)
    assert (refusal.code, refusal.reason) == (INVALID, reason)
    assert refusal.fields == ("config.source.upload.total_bytes",)


async def test_an_upload_over_the_limit_is_refused_before_it_ends(decoder: Decoder):
    refusal = refusal_of((await decoder.upload(bytes(1_300_000))).error)
    assert (refusal.code, refusal.reason, refusal.metadata["limit"]) == (INVALID, "SIZE_LIMIT", "1000000")


async def test_an_empty_upload_is_refused(decoder: Decoder):
    refusal = refusal_of((await decoder.upload(b"")).error)
    assert (refusal.code, refusal.reason) == (INVALID, "NOT_A_VIDEO")


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/none.mp4", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("/../secret", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("/%2e%2e/secret", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("/link", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("", INVALID, "NOT_A_FILE"),
        ("/pipe", INVALID, "NOT_A_FILE"),
    ],
)
async def test_a_path_that_cannot_be_read_has_its_own_error(tmp_path, path, code, reason):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(FILM)
    (root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    async with running_decoder(root) as decoder:
        refusal = refusal_of((await decoder.try_decode(Source(uri=f"file://{root}{path}"))).error)
        assert (refusal.code, refusal.reason) == (code, reason)


async def test_an_upload_that_comes_in_crumbs_is_put_together(decoder: Decoder):
    source = Source(upload=common_pb2.VideoUpload(total_bytes=len(FILM)))
    decoded = await decoder.converse(requests(config(source), chunks_of(FILM, 37)))
    assert len(decoded.frames) == 15
