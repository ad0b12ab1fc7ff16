"""What an operator sees of one call: its trace and its log records, through all services."""

import asyncio
from pathlib import Path

import grpc
import pytest

from shoppable.v1 import common_pb2, orchestrator_pb2, orchestrator_pb2_grpc
from support.catalogs import CATALOG

REQUEST_ID = "telemetry-of-one-film"
PACKAGE = "/shoppable.v1."
# Who calls whom, by the name of the span that the called service makes.
EDGES = {
    ("shoppable-orchestrator", "shoppable-decoder", "FrameDecoderService/DecodeFrames"),
    ("shoppable-orchestrator", "shoppable-detector", "ObjectDetectorService/StreamDetectObjects"),
    ("shoppable-orchestrator", "shoppable-matcher", "ProductMatcherService/MatchProducts"),
}
# Whom a service asks that makes no spans of its own, by the span that the asking service makes for it.
ASKED = {
    ("shoppable-detector", "triton/detector_coco"),
    ("shoppable-detector", "triton/detector_wearables"),
    ("shoppable-matcher", "triton/embedder"),
    ("shoppable-matcher", "qdrant/search"),
}
LIMIT_S = 30


async def annotate(suite, samples: Path) -> None:
    async with grpc.aio.insecure_channel(suite.endpoints["orchestrator"]) as channel:
        await orchestrator_pb2_grpc.OrchestratorServiceStub(channel).AnnotateVideo(
            orchestrator_pb2.AnnotateVideoRequest(
                source=common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri()),
                options=orchestrator_pb2.AnnotateOptions(catalog=CATALOG, end_time={"seconds": 2}),
            ),
            metadata=[("x-request-id", REQUEST_ID)],
            timeout=60,
        )


@pytest.fixture(scope="module")
def called(suite, samples: Path):
    asyncio.run(annotate(suite, samples))
    return suite


async def until(condition):
    async with asyncio.timeout(LIMIT_S):
        while not (met := condition()):
            await asyncio.sleep(0.1)
    return met


def spans_of_the_call(called) -> dict:
    spans = list(called.collector.spans())
    roots = {span.trace for span in spans if span.name.endswith("OrchestratorService/AnnotateVideo")}
    return {span.id: span for span in spans if span.trace in roots}


async def test_one_trace_goes_through_all_services(called):
    def edges() -> set[tuple[str, str, str]]:
        by_id = spans_of_the_call(called)
        # A call is two spans: the caller's and, below it, the called service's.
        return {
            (by_id[span.parent].app, span.app, span.name.removeprefix(PACKAGE))
            for span in by_id.values()
            if span.parent in by_id and by_id[span.parent].app != span.app
        }

    await until(lambda: edges() >= EDGES)


async def test_the_same_trace_shows_triton_and_qdrant(called):
    def asked() -> set[tuple[str, str]]:
        by_id = spans_of_the_call(called)
        return {(span.app, span.name) for span in by_id.values() if span.parent in by_id}

    await until(lambda: asked() >= ASKED)


async def test_log_records_of_every_service_carry_the_trace(called):
    def apps(trace_id: str) -> set[str]:
        return {
            path.stem
            for path in called.logs.glob("*.log")
            if any(
                "call ended" in line and f"request_id={REQUEST_ID}" in line and f"trace_id={trace_id}" in line
                for line in path.read_text(errors="replace").splitlines()
            )
        }

    def traces() -> set[str]:  # other tests annotate as well, each call in a trace of its own
        return {span.trace.hex() for span in spans_of_the_call(called).values()}

    await until(lambda: any(apps(trace) == {"orchestrator", "decoder", "detector", "matcher"} for trace in traces()))


async def test_the_request_id_is_in_the_log_of_every_service(called):
    def apps() -> set[str]:
        return {
            path.stem
            for path in called.logs.glob("*.log")
            if any(
                "call ended" in line and f"request_id={REQUEST_ID}" in line
                for line in path.read_text(errors="replace").splitlines()
            )
        }

    await until(lambda: apps() == {"orchestrator", "decoder", "detector", "matcher"})
