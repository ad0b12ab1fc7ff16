"""Random requests to every method: each ends with a status that the contract knows, and the servers stay up."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message

from faults.fuzzing import Call, RequestMaker, services
from faults.harness import FaultySuite, Finding
from shoppable.client.errors import ShoppableError, translated
from shoppable.client.streams import call_stream

# Importing the messages fills the pool that the requests are made from.
from shoppable.v1 import (  # noqa: F401
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)

# `FUZZ_CALLS=100000 FUZZ_SEED=7` for a longer run by hand.
CALLS = int(os.environ.get("FUZZ_CALLS", "600"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
AT_A_TIME = 4
DEADLINE_S = 30
HOSTS = {
    "FrameDecoderService": "decoder",
    "ObjectDetectorService": "detector",
    "ProductCatalogService": "matcher",
    "ProductMatcherService": "matcher",
    "OrchestratorService": "orchestrator",
    "ServerInfoService": "orchestrator",
}
# What a caller may be told for a request that makes no sense; never INTERNAL, UNKNOWN, or nothing at all.
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
}


async def send(channel: grpc.aio.Channel, call: Call) -> ShoppableError | None:
    """Make the call and read all that comes; return its error."""
    kind = ("stream" if call.method.client_streaming else "unary") + "_"
    kind += "stream" if call.method.server_streaming else "unary"
    answer_class = message_factory.GetMessageClass(call.method.output_type)
    method = getattr(channel, kind)(
        call.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer_class.FromString,
    )
    try:
        with translated():
            if call.method.client_streaming:
                async for _ in call_stream(method, _given(call), timeout_s=DEADLINE_S):
                    pass
            elif call.method.server_streaming:
                async for _ in method(call.requests[0], timeout=DEADLINE_S):
                    pass
            else:
                await method(call.requests[0], timeout=DEADLINE_S)
    except ShoppableError as error:
        return error
    return None


async def _given(call: Call) -> AsyncIterator[Message]:
    for request in call.requests:
        yield request


async def test_random_requests_end_with_a_status_of_the_contract(
    faulty: FaultySuite, samples: Path, findings: list[Finding]
):
    pids = {name: faulty.pid(name) for name in ("decoder", "detector", "matcher", "orchestrator")}
    film = samples / "film.mp4"
    maker = RequestMaker(
        SEED,
        texts=[film.as_uri(), "catalogs/sample", "catalogs/sample/products/bottle-green-cider"],
        blobs=[film.read_bytes()[:20_000], next(samples.rglob("*.jpg")).read_bytes()],
    )
    # The sample catalogue is for the other tests.
    methods = [method for service in services() for method in service.methods if method.name != "DeleteCatalog"]
    codes: Counter[str] = Counter()
    wrong: list[str] = []
    channels = {name: grpc.aio.insecure_channel(faulty.endpoint(name)) for name in pids}

    async def work(share: list[Call]) -> None:
        for call in share:
            error = await send(channels[HOSTS[call.method.containing_service.name]], call)
            code = grpc.StatusCode.OK if error is None else error.code
            codes[code.name] += 1
            if code not in FINE or (error is not None and not error.reason):
                wrong.append(f"{call.path}: {code.name} {error}: {str(call.requests)[:600]}")

    calls = [maker.call(methods[number % len(methods)]) for number in range(CALLS)]
    await asyncio.gather(*(work(calls[start::AT_A_TIME]) for start in range(AT_A_TIME)))
    for channel in channels.values():
        await channel.close()
    assert not wrong, "\n".join(wrong[:20]) + f"\n{len(wrong)} in all"
    assert codes["OK"] > CALLS * 0.02  # or the requests would test nothing but the first check
    assert pids == {name: faulty.pid(name) for name in pids}  # nobody had to be restarted
    await faulty.until_well()
    findings.append(Finding(f"{CALLS} random requests", ", ".join(f"{code} {n}" for code, n in codes.most_common())))
