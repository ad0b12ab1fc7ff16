"""Who may call what, through real servers: keys, tokens, certificates, catalogues, quotas."""

import asyncio
import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from google.rpc import error_details_pb2 as details_pb2
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shoppable.client import ShoppableError
from shoppable.client.channels import TlsFiles, open_channel
from shoppable.orchestrator.server import build as build_orchestrator
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.call import current_caller
from shoppable.runtime.errors import NotFoundError
from shoppable.runtime.interceptors import outgoing
from shoppable.runtime.logs import configure_logs
from shoppable.runtime.server import serving
from shoppable.runtime.settings import ServerSettings
from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    frame_decoder_pb2_grpc,
    orchestrator_pb2,
    orchestrator_pb2_grpc,
    product_catalog_pb2,
    product_catalog_pb2_grpc,
    server_info_pb2,
    server_info_pb2_grpc,
)
from support.caller_files import KEY, OTHER_KEY, callers_file, digest
from support.certificates import Authority
from support.scripted import scripted

ISSUER, AUDIENCE = "https://issuer.example", "shoppable"
LIMIT_S = 20


class Catalogs(product_catalog_pb2_grpc.ProductCatalogServiceServicer):
    """Answers everything, and remembers who asked."""

    def __init__(self) -> None:
        self.callers: list[Any] = []
        self.release = asyncio.Event()
        self.release.set()
        self.waiting = 0

    async def GetCatalog(self, request, context):
        self.callers.append(current_caller())
        self.waiting += 1
        await self.release.wait()
        return product_catalog_pb2.GetCatalogResponse()

    async def CreateCatalog(self, request, context):
        return product_catalog_pb2.CreateCatalogResponse()

    async def ListCatalogs(self, request, context):
        return product_catalog_pb2.ListCatalogsResponse()

    async def UpsertProducts(self, request_iterator, context):
        async for request in request_iterator:
            self.callers.append(request.WhichOneof("request"))
            yield product_catalog_pb2.UpsertProductsResponse()


@contextlib.asynccontextmanager
async def served(**settings):
    servicer = Catalogs()
    async with (
        scripted("ProductCatalogService", servicer, **settings) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield servicer, channel


async def get(channel, key: str | None = KEY, catalog: str = "catalogs/summer", header: str = "authorization"):
    metadata = []
    if key is not None:
        metadata = [("authorization", f"Bearer {key}")] if header == "authorization" else [(header, key)]
    stub = product_catalog_pb2_grpc.ProductCatalogServiceStub(channel)
    await stub.GetCatalog(product_catalog_pb2.GetCatalogRequest(name=catalog), metadata=metadata, timeout=LIMIT_S)


async def failure(call) -> ShoppableError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return ShoppableError.from_rpc(caught.value)


async def test_a_known_key_is_let_in_by_either_header(tmp_path: Path):
    async with served(auth_callers_file=callers_file(tmp_path)) as (servicer, channel):
        await get(channel)
        await get(channel, header="x-api-key")
    assert [caller.name for caller in servicer.callers] == ["web-shop", "web-shop"]


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "CREDENTIAL_MISSING"), ("", "CREDENTIAL_MISSING"), (KEY + "x", "CREDENTIAL_UNKNOWN")]
)
async def test_who_is_not_known_is_unauthenticated(tmp_path: Path, key, reason):
    async with served(auth_callers_file=callers_file(tmp_path)) as (servicer, channel):
        error = await failure(get(channel, key))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert servicer.callers == []


async def test_an_rpc_that_is_not_allowed_is_denied(tmp_path: Path):
    path = callers_file(tmp_path, rpcs=["shoppable.v1.ProductCatalogService/Create*"])
    async with served(auth_callers_file=path) as (_, channel):
        error = await failure(get(channel))
        assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "RPC_NOT_ALLOWED")
        assert error.metadata["caller"] == "web-shop"
        # Version and limits are for everybody who is known.
        info = server_info_pb2_grpc.ServerInfoServiceStub(channel)
        await info.GetServerInfo(server_info_pb2.GetServerInfoRequest(), metadata=[("x-api-key", KEY)])
        assert (await failure(info.GetServerInfo(server_info_pb2.GetServerInfoRequest()))).code is (
            grpc.StatusCode.UNAUTHENTICATED
        )


async def test_another_catalogue_is_denied_wherever_the_request_names_it(tmp_path: Path):
    async with served(auth_callers_file=callers_file(tmp_path)) as (servicer, channel):
        stub = product_catalog_pb2_grpc.ProductCatalogServiceStub(channel)
        metadata = [("x-api-key", KEY)]
        await get(channel, catalog="catalogs/sale-2030")
        create, list_all = product_catalog_pb2.CreateCatalogRequest, product_catalog_pb2.ListCatalogsRequest
        await stub.CreateCatalog(create(catalog_id="sale-x"), metadata=metadata)
        for call in (
            get(channel, catalog="catalogs/winter"),
            get(channel, catalog="catalogs/winter/products/p"),
            stub.CreateCatalog(create(catalog_id="winter"), metadata=metadata),
            stub.ListCatalogs(list_all(), metadata=metadata),
        ):
            error = await failure(call)
            assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CATALOG_NOT_ALLOWED")
    assert len(servicer.callers) == 1


async def test_a_stream_is_denied_at_the_message_that_names_another_catalogue(tmp_path: Path):
    def config(name: str):
        return product_catalog_pb2.UpsertProductsRequest(config=product_catalog_pb2.UpsertProductsConfig(catalog=name))

    def product(name: str):
        return product_catalog_pb2.UpsertProductsRequest(
            upsert=product_catalog_pb2.ProductUpsert(product=product_catalog_pb2.Product(name=name))
        )

    async def upsert(channel, *messages) -> int:
        stub = product_catalog_pb2_grpc.ProductCatalogServiceStub(channel)
        return len([_ async for _ in stub.UpsertProducts(iter(messages), metadata=[("x-api-key", KEY)])])

    async with served(auth_callers_file=callers_file(tmp_path)) as (servicer, channel):
        assert await upsert(channel, config("catalogs/summer"), product("catalogs/summer/products/p")) == 2
        assert (await failure(upsert(channel, config("catalogs/winter")))).reason == "CATALOG_NOT_ALLOWED"
        late = upsert(channel, config("catalogs/summer"), product("catalogs/winter/products/p"))
        assert (await failure(late)).reason == "CATALOG_NOT_ALLOWED"
    assert servicer.callers == ["config", "upsert", "config"]


async def test_a_rate_above_the_quota_is_refused_with_how_long_to_wait(tmp_path: Path):
    path = callers_file(tmp_path, requests_per_second=0.5, burst=2)
    async with served(auth_callers_file=path) as (_, channel):
        await get(channel)
        await get(channel)
        error = await failure(get(channel))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE")
    assert error.retry_after_s
    assert 0 < error.retry_after_s <= 2
    quota = details_pb2.QuotaFailure()
    assert error.status
    assert any(detail.Unpack(quota) for detail in error.status.details)
    assert quota.violations[0].subject == "caller:web-shop"


async def test_calls_in_work_above_the_quota_are_refused_until_one_ends(tmp_path: Path):
    async with served(auth_callers_file=callers_file(tmp_path), quota_concurrent_calls=1) as (servicer, channel):
        servicer.release.clear()
        first = asyncio.ensure_future(get(channel))
        async with asyncio.timeout(LIMIT_S):
            while not servicer.waiting:
                await asyncio.sleep(0.01)
        assert (await failure(get(channel))).reason == "CALLER_CONCURRENCY"
        servicer.release.set()
        await first
        await get(channel)


async def test_a_changed_table_holds_without_a_restart_and_a_broken_one_does_not(tmp_path: Path):
    path = callers_file(tmp_path)
    async with served(auth_callers_file=path) as (_, channel):
        await get(channel)
        callers_file(tmp_path, sha256=[digest(OTHER_KEY)])
        async with asyncio.timeout(LIMIT_S):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await get(channel, OTHER_KEY)
                    break
                await asyncio.sleep(0.1)
        assert (await failure(get(channel))).reason == "CREDENTIAL_UNKNOWN"
        path.write_text("[callers")
        await asyncio.sleep(1.1)  # past the time for which files are not looked at again
        await get(channel, OTHER_KEY)


async def test_health_is_open_and_reflection_and_channelz_are_not(tmp_path: Path):
    path = callers_file(tmp_path, rpcs=["grpc.*"])

    async def names(channel, metadata=()):
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        return len(
            (await stub.ServerReflectionInfo(iter([request]), metadata=metadata).read()).list_services_response.service
        )

    async with served(auth_callers_file=path) as (_, channel):
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        channelz = channelz_pb2_grpc.ChannelzStub(channel)
        for call in (names(channel), channelz.GetServers(channelz_pb2.GetServersRequest())):
            assert (await failure(call)).reason == "CREDENTIAL_MISSING"
        assert await names(channel, [("x-api-key", KEY)]) > 2
        assert (await channelz.GetServers(channelz_pb2.GetServersRequest(), metadata=[("x-api-key", KEY)])).server
    async with served(auth_callers_file=path, auth_open_reflection=True) as (_, channel):
        assert await names(channel) > 2


async def test_no_secret_reaches_the_logs_and_the_caller_does(tmp_path: Path, capsys):
    configure_logs(ServerSettings(log_level="debug"))
    try:
        async with served(auth_callers_file=callers_file(tmp_path)) as (_, channel):
            await get(channel)
            for wrong in (OTHER_KEY, "a.secret.token", KEY + "x"):
                await failure(get(channel, wrong))
            await failure(get(channel, catalog="catalogs/winter"))
    finally:
        logging.getLogger().handlers.clear()
    log = capsys.readouterr().err
    for secret in (KEY, OTHER_KEY, "secret", digest(KEY)):
        assert secret not in log
    ended = [record for record in map(json.loads, log.splitlines()) if record["event"] == "call ended"]
    assert [(record.get("caller"), record["code"]) for record in ended] == [
        ("web-shop", "OK"),
        *[(None, "UNAUTHENTICATED")] * 3,
        ("web-shop", "PERMISSION_DENIED"),
    ]


async def test_a_service_shows_its_own_key_to_those_that_it_calls(tmp_path: Path):
    servicer = Catalogs()
    async with (
        scripted("ProductCatalogService", servicer, auth_callers_file=callers_file(tmp_path)) as (_, address),
        open_channel(address, interceptors=outgoing(lambda: KEY)) as own,
    ):
        await get(own, key=None)
    assert servicer.callers[-1].name == "web-shop"


@pytest.mark.parametrize("in_table", [True, False])
async def test_a_client_certificate_says_who_calls(tmp_path: Path, in_table: bool):
    authority = Authority(tmp_path)
    pair, client = authority.issue("localhost"), authority.issue("web-shop.example", file="client")
    settings: dict[str, Any] = {
        "tls_certificate_file": pair.certificate,
        "tls_key_file": pair.key,
        "tls_client_ca_file": authority.roots,
    }
    if in_table:
        settings["auth_callers_file"] = callers_file(tmp_path, sha256=[], certificates=["web-shop.example"])
    servicer = Catalogs()
    async with scripted("ProductCatalogService", servicer, **settings) as (_, address):
        tls = TlsFiles(authority.roots, client.certificate, client.key)
        async with open_channel(address.replace("127.0.0.1", "localhost"), tls=tls) as channel:
            await get(channel, key=None)
            if in_table:
                denied = await failure(get(channel, key=None, catalog="catalogs/winter"))
                assert denied.reason == "CATALOG_NOT_ALLOWED"
            else:
                await get(channel, key=None, catalog="catalogs/winter")
        stranger = authority.issue("nobody.example", file="stranger")
        tls = TlsFiles(authority.roots, stranger.certificate, stranger.key)
        async with open_channel(address.replace("127.0.0.1", "localhost"), tls=tls) as channel:
            if in_table:
                assert (await failure(get(channel, key=None))).reason == "CREDENTIAL_MISSING"
    assert servicer.callers[0].name == ("web-shop" if in_table else "web-shop.example")


RSA_KEY = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "RS256": RSA_KEY,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_set(folder: Path, *algorithms: str) -> Path:
    entries = [
        json.loads(jwt.get_algorithm_by_name(name).to_jwk(KEYS[name].public_key())) | {"kid": f"key-{name}"}
        for name in algorithms
    ]
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": entries}))
    return path


def token(algorithm: str = "ES256", key: Any = None, kid: str | None = None, **changes: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": time.time() + 60,
        "scope": "openid rpc:shoppable.v1.ProductCatalogService/Get* catalog:summer",
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": kid if kid is not None else f"key-{algorithm}"}
    return jwt.encode(claims, key if key is not None else KEYS[algorithm], algorithm=algorithm, headers=headers)


def jwt_settings(path: Path, **changes: Any) -> dict[str, Any]:
    return {"auth_jwt_keys_file": path, "auth_jwt_issuer": ISSUER, "auth_jwt_audience": AUDIENCE} | changes


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_of_the_issuer_is_let_in_with_its_scopes(tmp_path: Path, algorithm: str):
    async with served(**jwt_settings(key_set(tmp_path, *KEYS))) as (servicer, channel):
        await get(channel, token(algorithm))
        assert (await failure(get(channel, token(algorithm), catalog="catalogs/winter"))).reason == (
            "CATALOG_NOT_ALLOWED"
        )
        assert (await failure(get(channel, token(algorithm, scope="openid")))).reason == "RPC_NOT_ALLOWED"
    assert [(caller.name, caller.kind) for caller in servicer.callers] == [("alice", "jwt")]


async def test_tokens_that_are_not_to_be_trusted_are_refused(tmp_path: Path):
    stranger = ec.generate_private_key(ec.SECP256R1())
    header, claims, signature = token().split(".")
    other_claims = token(sub="root").split(".")[1]
    cases = {
        "TOKEN_EXPIRED": [token(exp=time.time() - 60)],
        "TOKEN_INVALID": [
            token(iss="https://elsewhere.example"),
            token(aud="another"),
            token(exp=None),
            token(sub=None),
            token(aud=None),
            token(sub="two words"),
            token(nbf=time.time() + 600),
            token(scope=["rpc:*"]),
            token(key=stranger),
            token(kid="nobody's"),
            f"{header}.{other_claims}.{signature}",
            f"{header}.{claims}.",
            "no.token.this",
            jwt.encode({"sub": "alice"}, "", algorithm="none"),
            # The public key as the secret of a symmetric signature: the classic confusion of algorithms.
            token("HS256", key=b"x" * 32, kid="key-ES256"),
        ],
    }
    async with served(**jwt_settings(key_set(tmp_path, *KEYS))) as (servicer, channel):
        for reason, tokens in cases.items():
            for wrong in tokens:
                error = await failure(get(channel, wrong))
                assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason), wrong
    assert servicer.callers == []


async def test_a_pem_key_takes_its_own_algorithm_only(tmp_path: Path):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(KEYS["ES256"]))
    async with served(**jwt_settings(path)) as (_, channel):
        await get(channel, token("ES256"))
        assert (await failure(get(channel, token("RS256")))).reason == "TOKEN_INVALID"
    async with served(**jwt_settings(path, auth_jwt_algorithms=["RS256"])) as (_, channel):
        assert (await failure(get(channel, token("ES256")))).reason == "TOKEN_INVALID"


async def test_keys_and_tokens_may_be_used_side_by_side(tmp_path: Path):
    settings = jwt_settings(key_set(tmp_path, "ES256"), auth_callers_file=callers_file(tmp_path))
    async with served(**settings) as (servicer, channel):
        await get(channel)
        await get(channel, token())
    assert [caller.name for caller in servicer.callers] == ["web-shop", "alice"]


class Nothing(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Has no videos, and remembers who asked for one."""

    def __init__(self) -> None:
        self.callers: list[Any] = []

    async def DecodeFrames(self, request_iterator, context):
        self.callers.append(current_caller())
        raise NotFoundError("video", "file:///none.mp4", "there is no such video")
        yield frame_decoder_pb2.DecodeFramesResponse()


async def test_the_orchestrator_asks_under_its_own_name_over_mutual_tls(tmp_path: Path):
    authority = Authority(tmp_path)
    pair, own = authority.issue("localhost"), authority.issue("orchestrator.example", file="own")
    key = tmp_path / "own.key.txt"
    key.write_text(KEY + "\n")
    path = callers_file(tmp_path, rpcs=["shoppable.v1.*"])
    path.write_text(path.read_text().replace("web-shop", "orchestrator"))
    secured = {
        "tls_certificate_file": pair.certificate,
        "tls_key_file": pair.key,
        "tls_client_ca_file": authority.roots,
        "auth_callers_file": path,
    }
    decoder = Nothing()
    async with scripted("FrameDecoderService", decoder, **secured) as (_, address):
        endpoint = address.replace("127.0.0.1", "localhost")
        settings = OrchestratorSettings(
            port=0, decoder_endpoint=endpoint, detector_endpoint=endpoint, matcher_endpoint=endpoint, patience_s=0,
            peer_ca_file=authority.roots, peer_certificate_file=own.certificate, peer_key_file=own.key,
            peer_api_key_file=key,
        )  # fmt: skip
        async with serving(settings, build_orchestrator) as (_, front), grpc.aio.insecure_channel(front) as channel:
            stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
            source = common_pb2.VideoSource(uri="file:///none.mp4")
            request = orchestrator_pb2.AnnotateVideoRequest(source=source)
            # It fails, at the decoder or at the detector that is none: what counts is who was let in.
            await failure(stub.AnnotateVideo(request, metadata=[("x-api-key", OTHER_KEY)], timeout=LIMIT_S))
            async with asyncio.timeout(LIMIT_S):
                while not decoder.callers:
                    await asyncio.sleep(0.01)
    assert [caller.name for caller in decoder.callers] == ["orchestrator"]
