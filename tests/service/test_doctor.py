"""What the doctor says of servers in each of the states that it knows: real ones, on real sockets."""

import asyncio
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from shoppable import __version__
from shoppable.cli.app import app
from shoppable.cli.doctor.connection import Access
from shoppable.cli.doctor.examination import examine_all
from shoppable.cli.doctor.findings import Finding, Severity
from shoppable.decoder.server import build as build_decoder
from shoppable.decoder.settings import DecoderSettings
from shoppable.detector.server import build as build_detector
from shoppable.detector.settings import DetectorSettings
from shoppable.matcher.server import build as build_matcher
from shoppable.matcher.settings import MatcherSettings
from shoppable.orchestrator.server import build as build_orchestrator
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime import server as runtime_server
from shoppable.runtime.errors import FailedPreconditionError
from shoppable.runtime.server import serving
from shoppable.v1 import (
    object_detector_pb2,
    object_detector_pb2_grpc,
    product_catalog_pb2,
    product_catalog_pb2_grpc,
    product_matcher_pb2,
    product_matcher_pb2_grpc,
)
from support.caller_files import KEY, OTHER_KEY, callers_file
from support.certificates import Authority
from support.scripted import scripted

NOWHERE = "127.0.0.1:1"


def errors(findings: list[Finding]) -> dict[str, str]:
    return {finding.code: finding.subject for finding in findings if finding.severity is Severity.ERROR}


def warnings(findings: list[Finding]) -> dict[str, str]:
    return {finding.code: finding.subject for finding in findings if finding.severity is Severity.WARNING}


async def examine(addresses: Mapping[str, str], **access: Any) -> list[Finding]:
    async with asyncio.timeout(60):
        findings = await examine_all(addresses, Access(**access))
    # Whoever is told that something is wrong is told what to do.
    assert all(bool(finding.remedy) is (finding.severity is not Severity.OK) for finding in findings)
    assert all(finding.text for finding in findings)
    return findings


def a_decoder(**settings: Any):
    return serving(DecoderSettings(port=0, **settings), build_decoder)


async def test_a_decoder_that_is_well():
    async with a_decoder() as (_, address):
        findings = await examine({"decoder": address})
    assert [(finding.severity.value, finding.code) for finding in findings] == [("ok", "REACHED"), ("ok", "SERVING")]


async def test_nothing_there():
    assert errors(await examine({"decoder": NOWHERE})) == {"REFUSED": "decoder"}
    assert errors(await examine({"decoder": "no-such-host.invalid:50051"})) == {"NAME_UNKNOWN": "decoder"}


@contextlib.contextmanager
def a_web_server() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_something_else_there():
    with a_web_server() as address:
        assert errors(await examine({"decoder": address})) == {"NOT_GRPC": "decoder"}
        assert errors(await examine({"decoder": address}, tls=True)) == {"NOT_TLS": "decoder"}
    async with a_decoder() as (_, address):
        assert errors(await examine({"matcher": address}))["WRONG_SERVICE"] == "matcher"


async def test_tls_that_does_not_fit(tmp_path: Path):
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    soon = datetime.now(UTC) + timedelta(days=3, hours=1)

    async def found(pair, *, names: str = "localhost", **access: Any) -> list[Finding]:
        files = {"tls_certificate_file": pair.certificate, "tls_key_file": pair.key}
        async with a_decoder(**files) as (_, address):
            return await examine({"decoder": address.replace("127.0.0.1", names)}, **access)

    trusting: dict[str, Any] = {"tls": True, "roots": authority.roots}
    assert errors(await found(authority.issue("localhost"))) == {"SPEAKS_TLS": "decoder"}
    assert errors(await found(authority.issue("localhost"), **trusting)) == {}
    assert errors(await found(other.issue("localhost"), **trusting)) == {"CERTIFICATE_UNTRUSTED": "decoder"}
    assert errors(await found(authority.issue("elsewhere.example"), **trusting)) == {"CERTIFICATE_NAME": "decoder"}
    assert errors(await found(authority.issue("localhost", expired=True), **trusting)) == {
        "CERTIFICATE_EXPIRED": "decoder"
    }
    assert warnings(await found(authority.issue("localhost", until=soon), **trusting)) == {
        "CERTIFICATE_EXPIRES": "decoder"
    }
    mine, theirs = authority.issue("localhost", file="mine"), other.issue("localhost", file="theirs")
    assert errors(await found(mine, tls=True, roots=mine.key)) == {"OWN_FILES": "decoder"}
    files = {
        "tls_certificate_file": mine.certificate,
        "tls_key_file": mine.key,
        "tls_client_ca_file": authority.roots,
    }
    async with a_decoder(**files) as (_, address):
        addresses = {"decoder": address.replace("127.0.0.1", "localhost")}
        assert errors(await examine(addresses, **trusting)) == {"CLIENT_CERTIFICATE_NEEDED": "decoder"}
        assert errors(await examine(addresses, **trusting, certificate=theirs.certificate, key=theirs.key)) == {
            "CLIENT_CERTIFICATE_REFUSED": "decoder"
        }
        assert errors(await examine(addresses, **trusting, certificate=mine.certificate, key=mine.key)) == {}


async def test_credentials_that_do_not_fit(tmp_path: Path):
    path = callers_file(tmp_path, rpcs=["shoppable.v1.OrchestratorService/*"])
    async with a_decoder(auth_callers_file=path) as (_, address):
        assert errors(await examine({"decoder": address})) == {"CREDENTIAL_MISSING": "decoder"}
        assert errors(await examine({"decoder": address}, api_key=OTHER_KEY)) == {"CREDENTIAL_UNKNOWN": "decoder"}
        assert errors(await examine({"decoder": address}, api_key=KEY)) == {}


async def test_a_caller_that_may_not_look_is_told_so_and_no_more(tmp_path: Path):
    path = callers_file(tmp_path, rpcs=["shoppable.v1.OrchestratorService/*"])
    async with scripted("ObjectDetectorService", Detector(), auth_callers_file=path) as (_, address):
        findings = await examine({"detector": address}, api_key=KEY)
    assert (errors(findings), warnings(findings)) == ({}, {"RPC_NOT_ALLOWED": "detector"})


async def test_a_server_that_lets_in_everybody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shoppable.cli.doctor.server.is_loopback", lambda host: False)
    async with a_decoder() as (_, address):
        assert warnings(await examine({"decoder": address})) == {"OPEN_TO_ALL": "decoder"}


async def test_versions_and_clocks_that_differ(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime_server, "__version__", "0.0.7")
    monkeypatch.setattr(runtime_server, "time", SimpleNamespace(time=lambda: datetime.now(UTC).timestamp() + 60))
    async with a_decoder() as (_, address):
        monkeypatch.setattr(runtime_server, "__version__", __version__)
        async with scripted("ObjectDetectorService", Detector()) as (_, detector):
            findings = await examine({"decoder": address, "detector": detector})
    assert warnings(findings).keys() == {"VERSION_DIFFERS", "CLOCK_DIFFERS", "VERSIONS_DIFFER"}
    assert any("60 s ahead" in finding.text for finding in findings)


class Detector(object_detector_pb2_grpc.ObjectDetectorServiceServicer):
    ready = True

    async def DetectObjects(self, request, context):
        return object_detector_pb2.DetectObjectsResponse()

    async def StreamDetectObjects(self, request_iterator, context):
        yield object_detector_pb2.StreamDetectObjectsResponse(models=object_detector_pb2.DetectionModelSet())
        async for _ in request_iterator:
            pass

    async def ListDetectionModels(self, request, context):
        other = object_detector_pb2.DetectionModel(name="m2", version="1", ready=True)
        one = object_detector_pb2.DetectionModel(name="m1", ready=self.ready, not_ready_reason="Triton lacks it")
        return object_detector_pb2.ListDetectionModelsResponse(models=[one, other])


async def test_models_that_are_not_ready_are_named():
    servicer = Detector()
    async with scripted("ObjectDetectorService", servicer) as (_, address):
        assert errors(await examine({"detector": address})) == {}
        servicer.ready = False
        findings = await examine({"detector": address})
    assert errors(findings) == {"MODEL_NOT_READY": "detector"}
    assert any("m1" in finding.text and "Triton lacks it" in finding.text for finding in findings)


async def test_triton_and_qdrant_that_a_service_does_not_reach(tmp_path: Path):
    detector = DetectorSettings(port=0, triton_endpoint=NOWHERE, inference_timeout_s=3)
    matcher = MatcherSettings(
        port=0, triton_endpoint=NOWHERE, index="server", qdrant_endpoint=NOWHERE, index_timeout_s=3
    )
    async with serving(detector, build_detector) as (_, one), serving(matcher, build_matcher) as (_, other):
        findings = await examine({"detector": one, "matcher": other})
    assert [finding.code for finding in findings if finding.severity is Severity.ERROR] == [
        "NOT_SERVING", "INFERENCE_UNAVAILABLE", "NOT_SERVING", "INDEX_UNAVAILABLE",
    ]  # fmt: skip


class Matcher(
    product_matcher_pb2_grpc.ProductMatcherServiceServicer, product_catalog_pb2_grpc.ProductCatalogServiceServicer
):
    def __init__(self) -> None:
        self.names = ["catalogs/old", "catalogs/new"]

    async def ListCatalogs(self, request, context):
        catalogs = [product_catalog_pb2.Catalog(name=name) for name in self.names]
        return product_catalog_pb2.ListCatalogsResponse(catalogs=catalogs)

    async def MatchProducts(self, request, context):
        if request.catalog == "catalogs/old":
            raise FailedPreconditionError("it was made with another embedder", reason="EMBEDDER_MISMATCH")
        return product_matcher_pb2.MatchProductsResponse(results=[product_matcher_pb2.MatchResult()])


async def test_a_catalogue_of_another_embedder_is_named():
    servicer = Matcher()
    async with scripted("ProductMatcherService", servicer, also="ProductCatalogService") as (_, address):
        findings = await examine({"matcher": address})
        servicer.names = []
        empty = await examine({"matcher": address})
    assert errors(findings) == {"EMBEDDER_MISMATCH": "matcher"}
    assert any("catalogs/old" in finding.text for finding in findings)
    assert any(finding.code == "CATALOGS_MATCH" and "catalogs/new" in finding.text for finding in findings)
    assert (errors(empty), warnings(empty)) == ({}, {"NO_CATALOGS": "matcher"})


def an_orchestrator(decoder: str, detector: str, matcher: str, **settings: Any):
    endpoints = {"decoder_endpoint": decoder, "detector_endpoint": detector, "matcher_endpoint": matcher}
    return serving(OrchestratorSettings(port=0, patience_s=0, **endpoints, **settings), build_orchestrator)


async def test_an_orchestrator_that_does_not_reach_the_others():
    async with (
        a_decoder() as (_, decoder),
        scripted("ObjectDetectorService", Detector()) as (_, detector),
        scripted("ProductMatcherService", Matcher(), also="ProductCatalogService") as (_, matcher),
        an_orchestrator(NOWHERE, detector, matcher) as (_, orchestrator),
    ):
        addresses = {"orchestrator": orchestrator, "decoder": decoder, "detector": detector, "matcher": matcher}
        findings = await examine(addresses)
    mine = {finding.code for finding in findings if finding.subject == "orchestrator"}
    assert mine == {"REACHED", "NOT_SERVING", "UPSTREAM_UNAVAILABLE", "CANNOT_REACH_OTHERS"}


async def test_limits_that_stand_in_each_others_way():
    async with (
        a_decoder(max_inline_bytes=1000) as (_, decoder),
        scripted("ObjectDetectorService", Detector()) as (_, detector),
        an_orchestrator(decoder, detector, NOWHERE) as (_, orchestrator),
    ):
        findings = await examine({"orchestrator": orchestrator, "decoder": decoder})
        assert errors(findings)["LIMITS_DISAGREE"] == "suite"
    async with a_decoder(max_inline_bytes=2**20, max_message_bytes=2**20) as (_, decoder):
        assert errors(await examine({"decoder": decoder})) == {"LIMITS_DISAGREE": "decoder"}


async def test_an_orchestrator_whose_key_the_others_do_not_know(tmp_path: Path):
    key = tmp_path / "key"
    key.write_text(OTHER_KEY)
    known = callers_file(tmp_path)
    async with (
        a_decoder(auth_callers_file=known) as (_, decoder),
        scripted("ObjectDetectorService", Detector()) as (_, detector),
        an_orchestrator(decoder, detector, NOWHERE, peer_api_key_file=key) as (_, orchestrator),
    ):
        findings = await examine({"orchestrator": orchestrator})
    assert errors(findings)["UPSTREAM_FAILED"] == "orchestrator"
    assert any("peer_api_key_file" in finding.remedy for finding in findings)


def test_the_command_says_it_in_words_or_json_and_by_its_exit_status():
    words = CliRunner().invoke(app, ["doctor", "--decoder", NOWHERE])
    assert words.exit_code == 1
    assert f"nothing listens at {NOWHERE}" in words.stdout
    machine = CliRunner().invoke(app, ["doctor", "--decoder", NOWHERE, "--json"])
    assert machine.exit_code == 1
    answer = json.loads(machine.stdout)
    assert answer["errors"] == 1
    assert answer["findings"][0]["code"] == "REFUSED"
