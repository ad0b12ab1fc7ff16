"""What a caller of the whole suite gets for bad input: the documented status, all violations at once, and no harm."""

import asyncio
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from shoppable.client import OrchestratorClient, ShoppableError, open_channel
from shoppable.v1 import common_pb2, orchestrator_pb2, orchestrator_pb2_grpc, product_catalog_pb2
from support.catalogs import CATALOG

Options = orchestrator_pb2.AnnotateOptions
Code = grpc.StatusCode


async def refusal(suite, source, options=None, *, unary: bool = True) -> ShoppableError:
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        client = OrchestratorClient(channel)
        with pytest.raises(ShoppableError) as caught:
            if unary:
                await client.annotate(source, options, timeout_s=60)
            else:
                async for _ in client.stream_annotate(source, options, timeout_s=60):
                    pass
    return caught.value


async def well(suite, samples: Path) -> None:
    """Check that the suite still works."""
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        options = Options(end_time=Duration(seconds=1))
        source = common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())
        answer = await OrchestratorClient(channel).annotate(source, options, timeout_s=60)
    assert answer.objects


def film(samples: Path) -> common_pb2.VideoSource:
    return common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (
            Options(
                start_time=Duration(seconds=-1),
                longest_side=3,
                min_detection_score=math.nan,
                max_products_per_object=0,
                match_confidence=7,
                sampling=common_pb2.FrameSampling(frames_per_second=math.nan),
            ),
            {
                "options.start_time", "options.longest_side", "options.min_detection_score",
                "options.max_products_per_object", "options.match_confidence", "options.sampling.frames_per_second",
            },
        ),
        (Options(start_time=Duration(seconds=3), end_time=Duration(seconds=2)), {"options.end_time"}),
        (Options(start_time=Duration(seconds=3), end_time=Duration(seconds=3)), {"options.end_time"}),
        (Options(sampling=common_pb2.FrameSampling(every_nth_frame=0)), {"options.sampling.every_nth_frame"}),
        (Options(max_objects=0), {"options.max_objects"}),
        (Options(catalog="not a name"), {"options.catalog"}),
        (Options(categories=["nothing-like-it"]), {"options.categories[0]"}),
        (
            Options(
                catalog=CATALOG,
                product_filter=product_catalog_pb2.ProductFilter(attributes=[{"key": "flavour", "values": ["x"]}]),
            ),
            {"options.product_filter.attributes[0].key"},
        ),
        (
            Options(product_filter=product_catalog_pb2.ProductFilter(brands=["x"])),
            {"options.catalog"},
        ),
    ],
    ids=["six", "end first", "empty span", "every 0th", "none wanted", "name", "category", "filter", "no catalogue"],
)  # fmt: skip
async def test_bad_options_are_named_all_at_once(suite, samples: Path, options, fields):
    error = await refusal(suite, film(samples), options)
    assert error.code is Code.INVALID_ARGUMENT
    assert {item.field for item in error.violations} == fields
    await well(suite, samples)


@pytest.mark.parametrize(
    ("options", "resource"),
    [
        (Options(catalog="catalogs/nowhere"), ("catalog", "catalogs/nowhere")),
        (Options(detection_models=["nothing"]), ("detection model", "nothing")),
    ],
)
async def test_what_does_not_exist_is_not_found_and_named(suite, samples: Path, options, resource):
    error = await refusal(suite, film(samples), options)
    assert error.code is Code.NOT_FOUND
    assert (error.resource_type, error.resource_name) == resource


async def test_a_revision_that_is_not_reached_is_a_failed_precondition(suite, samples: Path):
    error = await refusal(suite, film(samples), Options(catalog=CATALOG, min_catalog_revision=10**15))
    assert error.code is Code.FAILED_PRECONDITION
    assert error.reason == "REVISION_NOT_REACHED"


async def test_a_file_that_is_missing_outside_or_behind_a_link_is_refused(suite, samples: Path, tmp_path: Path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes((samples / "film.mp4").read_bytes())
    link = suite.inbox / "link.mp4"
    link.symlink_to(secret)
    wanted = {
        (suite.inbox / "missing.mp4").as_uri(): Code.NOT_FOUND,
        secret.as_uri(): Code.PERMISSION_DENIED,
        link.as_uri(): Code.PERMISSION_DENIED,
        f"file://{samples}/../../etc/passwd": Code.PERMISSION_DENIED,
        "concat:a|b": Code.INVALID_ARGUMENT,
        "http://127.0.0.1:1/x.mp4": Code.INVALID_ARGUMENT,
        "": Code.INVALID_ARGUMENT,
    }
    for uri, code in wanted.items():
        error = await refusal(suite, common_pb2.VideoSource(uri=uri))
        assert error.code is code, (uri, error)
    await well(suite, samples)


BAD_VIDEOS = {
    "empty": b"",
    "random": os.urandom(5000),
    "text": b"ffconcat version 1.0\nfile film.mp4\n",
    "playlist": b"#EXTM3U\n#EXTINF:1,\nfilm.mp4\n",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("name", BAD_VIDEOS)
async def test_what_is_no_video_is_an_invalid_argument_inline_and_uploaded(suite, samples: Path, name: str):
    async def upload() -> AsyncIterator[bytes]:
        yield BAD_VIDEOS[name]

    errors = [
        await refusal(suite, common_pb2.VideoSource(inline_bytes=BAD_VIDEOS[name])),
        await refusal(suite, upload(), unary=False),
    ]
    for error in errors:
        assert error.code is Code.INVALID_ARGUMENT, error
        assert error.violations
        assert all("source" in item.field for item in error.violations), error.violations
    await well(suite, samples)


async def test_a_source_that_is_missing_or_needs_a_stream_is_refused(suite):
    for source in (common_pb2.VideoSource(), common_pb2.VideoSource(upload=common_pb2.VideoUpload())):
        assert (await refusal(suite, source)).code is Code.INVALID_ARGUMENT


async def test_a_stream_that_begins_or_goes_on_wrongly_is_refused(suite):
    Request = orchestrator_pb2.StreamAnnotateVideoRequest  # noqa: N806
    config = Request(config=orchestrator_pb2.AnnotateConfig(source={"upload": {}}))
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
        for requests in ([], [Request(chunk=b"x")], [Request()], [config, config]):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stub.StreamAnnotateVideo(iter(requests), timeout=30):
                    pass
            assert caught.value.code() is Code.INVALID_ARGUMENT


async def test_a_deadline_that_is_too_short_is_exceeded_and_frees_what_it_held(suite, samples: Path):
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        client = OrchestratorClient(channel)
        with pytest.raises(ShoppableError) as caught:
            await client.annotate(film(samples), Options(catalog=CATALOG), timeout_s=0.5)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    await well(suite, samples)


async def test_a_caller_that_leaves_in_the_middle_harms_nobody(suite, samples: Path):
    async with open_channel(suite.endpoints["orchestrator"]) as channel:
        for _ in range(3):
            messages = OrchestratorClient(channel).stream_annotate(samples / "film.mp4", Options(catalog=CATALOG))
            await anext(messages)
            await asyncio.wait_for(messages.aclose(), 10)
    await well(suite, samples)
