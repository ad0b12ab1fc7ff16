"""What only trying shows: whether each service reaches what it needs, as it sees it."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from shoppable.cli.doctor.findings import Finding, ok, warning, wrong
from shoppable.cli.doctor.server import Target, Told, refusal
from shoppable.client.errors import ShoppableError
from shoppable.v1 import (
    common_pb2,
    object_detector_pb2,
    object_detector_pb2_grpc,
    orchestrator_pb2,
    orchestrator_pb2_grpc,
    product_catalog_pb2,
    product_catalog_pb2_grpc,
    product_matcher_pb2,
    product_matcher_pb2_grpc,
)

_SIDE = 64  # pixels of a grey picture
_PICTURE = common_pb2.Image(
    data=bytes([128]) * (3 * _SIDE * _SIDE), format=common_pb2.IMAGE_FORMAT_RGB24, width=_SIDE, height=_SIDE
)
_CATALOGS_LOOKED_AT = 20
# By the reason that a service gives: what is wrong between it and what it needs.
_REMEDIES = {
    "INFERENCE_UNAVAILABLE": "start Triton, check the service's triton_endpoint (and peer_ca_file where Triton speaks"
    " TLS), and Triton's log for the model",
    "MODEL_MISMATCH": "the model on Triton is another than the service expects: compare its config.pbtxt",
    "INDEX_UNAVAILABLE": "start Qdrant, and check the matcher's qdrant_endpoint and qdrant_tls",
    "INDEX_REFUSED": "set the matcher's qdrant_api_key to one that Qdrant takes",
    "EMBEDDER_MISMATCH": "import the catalogue again, or give the matcher the embedder that it was made with",
    "STORAGE_FULL": "make room on Qdrant's disks",
    "UPSTREAM_UNAVAILABLE": "check the orchestrator's endpoints of the other services, and the network between them",
    "UPSTREAM_FAILED": "look in the orchestrator's log for `a service failed`: if the code is UNAUTHENTICATED, its"
    " peer_api_key_file holds a key that the others do not know",
    "RPC_NOT_ALLOWED": "give the caller that stands for the suite the right to the RPCs of all services",
}


async def probe_detector(target: Target, findings: list[Finding]) -> None:
    """Ask for the models, and let them look at a picture."""
    stub = object_detector_pb2_grpc.ObjectDetectorServiceStub(target.channel)
    try:
        await target.call(stub.DetectObjects, object_detector_pb2.DetectObjectsRequest(images=[_PICTURE]))
        models = (await target.call(stub.ListDetectionModels, object_detector_pb2.ListDetectionModelsRequest())).models
    except ShoppableError as error:
        findings.append(_failed(target.subject, "to search a picture", error))
        return
    findings.extend(
        wrong(
            target.subject,
            "MODEL_NOT_READY",
            f"the model {model.name} cannot run: {model.not_ready_reason}",
            "load it on Triton, or take it out of the detector's models file",
        )
        for model in models
        if not model.ready
    )
    ready = [f"{model.name} {model.version}" for model in models if model.ready]
    if ready:
        findings.append(ok(target.subject, "MODELS_READY", f"Triton answers it; models: {', '.join(ready)}"))


async def probe_matcher(target: Target, findings: list[Finding]) -> None:
    """List the catalogues, and look for a picture in each: its embedder must be the one that runs."""
    catalogs = product_catalog_pb2_grpc.ProductCatalogServiceStub(target.channel)
    matcher = product_matcher_pb2_grpc.ProductMatcherServiceStub(target.channel)
    try:
        request = product_catalog_pb2.ListCatalogsRequest(page_size=_CATALOGS_LOOKED_AT)
        names = [catalog.name for catalog in (await target.call(catalogs.ListCatalogs, request)).catalogs]
    except ShoppableError as error:
        findings.append(_failed(target.subject, "to list catalogues", error))
        return
    if not names:
        findings.append(
            warning(
                target.subject,
                "NO_CATALOGS",
                "the index answers it, and holds no catalogue",
                "import one: shoppable catalog import",
            )
        )
        return
    good = []
    for name in names:
        query = product_matcher_pb2.MatchQuery(views=[product_matcher_pb2.MatchView(image=_PICTURE)])
        try:
            answer = await target.call(
                matcher.MatchProducts, product_matcher_pb2.MatchProductsRequest(catalog=name, queries=[query])
            )
        except ShoppableError as error:
            findings.append(_failed(target.subject, f"to match in {name}", error))
            continue
        failed = [result.status for result in answer.results if result.HasField("status") and result.status.code]
        if failed:
            findings.append(_failed(target.subject, f"to match in {name}", ShoppableError.from_status(failed[0])))
        else:
            good.append(name)
    if good:
        findings.append(
            ok(target.subject, "CATALOGS_MATCH", f"Triton and the index answer it; it matches in {', '.join(good)}")
        )


async def probe_orchestrator(target: Target, findings: list[Finding]) -> None:
    """Send what is no video: that the decoder says so proves the way to it, our orchestrator's key included."""
    stub = orchestrator_pb2_grpc.OrchestratorServiceStub(target.channel)
    request = orchestrator_pb2.AnnotateVideoRequest(source=common_pb2.VideoSource(inline_bytes=b"no video"))
    try:
        await target.call(stub.AnnotateVideo, request, timeout_s=30)
    except ShoppableError as error:
        if error.code is grpc.StatusCode.INVALID_ARGUMENT:
            findings.append(ok(target.subject, "DECODER_ANSWERS", "the decoder answers it"))
        else:
            findings.append(_failed(target.subject, "to have a video decoded", error))


def compare(told: Mapping[str, Told]) -> list[Finding]:
    """Return what several servers disagree about: versions, and limits that stand in each other's way."""
    findings = []
    versions = {subject: one.info.version for subject, one in told.items() if one.info}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{subject} {version}" for subject, version in sorted(versions.items()))
        findings.append(
            warning(
                "suite", "VERSIONS_DIFFER", f"the services run different versions: {listed}", "update the older ones"
            )
        )
    if {"orchestrator", "decoder"} <= told.keys():
        taken, passed_on = told["orchestrator"].limit("inline_video_bytes"), told["decoder"].limit("inline_video_bytes")
        if taken and passed_on and taken > passed_on:
            findings.append(
                wrong(
                    "suite",
                    "LIMITS_DISAGREE",
                    f"the orchestrator takes inline videos of {taken} bytes, and the decoder of {passed_on}",
                    "set max_inline_bytes to the same on both",
                )
            )
    for subject, one in told.items():
        inline, message = one.limit("inline_video_bytes"), one.limit("max_message_bytes")
        if inline and message and inline >= message:
            findings.append(
                wrong(
                    subject,
                    "LIMITS_DISAGREE",
                    f"it takes inline videos of {inline} bytes in messages of at most {message}",
                    "raise max_message_bytes above max_inline_bytes",
                )
            )
    others = [one.serving for subject, one in told.items() if subject != "orchestrator"]
    if "orchestrator" in told and not told["orchestrator"].serving and len(others) == 3 and all(others):
        findings.append(
            wrong(
                "orchestrator",
                "CANNOT_REACH_OTHERS",
                "all others can work, and it does not reach them",
                "check its decoder_endpoint, detector_endpoint and matcher_endpoint, its peer_ca_file where they speak"
                " TLS, and the network between them",
            )
        )
    return findings


def _failed(subject: str, what: str, error: ShoppableError) -> Finding:
    # What the orchestrator was refused comes without the caller's name: that was not us.
    if (found := refusal(subject, error)) and (error.metadata.get("caller") or error.reason != "RPC_NOT_ALLOWED"):
        return found
    code = error.reason or error.code.name
    return wrong(
        subject,
        code,
        f"it was asked {what}, and failed: {error.message}",
        _REMEDIES.get(code, "its log says more, under the same time"),
    )
