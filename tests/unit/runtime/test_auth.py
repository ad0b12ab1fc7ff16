"""Tables of callers, quotas, catalogues in requests, and where keys of tokens come from."""

import asyncio
import hashlib
import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shoppable.runtime.auth import key_sets, quotas, tokens
from shoppable.runtime.auth.authenticator import Authenticator
from shoppable.runtime.auth.callers import Caller, Quota, read_callers
from shoppable.runtime.auth.catalogs import ABOUT_ALL, catalog_paths, named_catalogs
from shoppable.runtime.errors import QuotaExceededError, UnavailableError
from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.watched_files import ConfigurationError
from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
)

DIGEST = hashlib.sha256(b"key").hexdigest()
RPCS = 'rpcs = ["*"]'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[callers", "is no TOML"),
        ("", "callers: Field required"),
        (f"[callers.a]\n{RPCS}", "callers.a needs sha256 or certificates"),
        (f'[callers.a]\nsha256 = ["plain-key"]\n{RPCS}', "callers.a.sha256.0"),
        (f'[callers.a]\nsha256 = ["{DIGEST}"]', "callers.a.rpcs: Field required"),
        (f'[callers.a]\nsha256 = ["{DIGEST}"]\nrpcs = ["[a-z]"]', "line 3, callers.a.rpcs.0"),
        (f'[callers.a]\nsha256 = ["{DIGEST}"]\nright = 1\n{RPCS}', "callers.a.right"),
        (f'[callers."a b"]\nsha256 = ["{DIGEST}"]\n{RPCS}', "callers.a b"),
        (
            f'[callers.a]\nsha256 = ["{DIGEST}"]\n{RPCS}\n[callers.b]\nsha256 = ["{DIGEST}"]\n{RPCS}',
            "of another caller",
        ),
        (f'[callers.a]\nsha256 = ["{DIGEST}"]\n{RPCS}\nrequests_per_second = 0', "requests_per_second"),
    ],
)
def test_a_wrong_table_is_refused_by_what_is_wrong_and_without_quoting_it(tmp_path: Path, content, complaint):
    path = tmp_path / "callers.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read_callers(path, Quota())
    assert complaint in str(caught.value)
    assert "plain-key" not in str(caught.value)
    assert DIGEST not in str(caught.value)


def test_patterns_allow_what_they_say_and_no_more():
    caller = Caller("a", "api_key", rpcs=("shoppable.v1.Product*/Get*",), catalogs=("sale-*",))
    assert caller.may_call("shoppable.v1.ProductCatalogService", "GetCatalog")
    assert not caller.may_call("shoppable.v1.ProductCatalogService", "DeleteCatalog")
    assert not caller.may_call("shoppable.v1.OrchestratorService", "GetCatalog")
    assert caller.may_use("sale-1")
    assert not caller.may_use("sale")
    assert not caller.may_use_all


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_with_time_and_never_above_its_burst():
    clock = Clock()
    accounts = quotas.Quotas(clock=clock)
    caller = Caller("a", "api_key", quota=Quota(requests_per_second=2.0, burst=3))

    def let_in() -> int:
        count = 0
        try:
            while True:
                with accounts.spending(caller):
                    count += 1
        except QuotaExceededError as error:
            assert 0 < error.retry_after_s <= 0.5
        return count

    assert let_in() == 3
    clock.now += 1.0
    assert let_in() == 2
    clock.now += 1000.0
    assert let_in() == 3


def test_accounts_of_names_that_come_and_go_are_bounded(monkeypatch):
    monkeypatch.setattr(quotas, "_REMEMBERED", 5)
    accounts = quotas.Quotas()
    for number in range(50):
        with accounts.spending(Caller(f"n{number}", "jwt")):
            pass
    assert len(accounts._accounts) == 5


# Every field of a request in which a catalogue may be named; a new RPC must be thought of here.
PATHS = {
    "FrameDecoderService/ProbeVideo": (),
    "FrameDecoderService/DecodeFrames": (),
    "ObjectDetectorService/DetectObjects": (),
    "ObjectDetectorService/StreamDetectObjects": (),
    "ObjectDetectorService/ListDetectionModels": (),
    "ObjectDetectorService/GetDetectionModel": ("name",),  # a model's; it begins otherwise
    "ObjectDetectorService/ListCategories": (),
    "OrchestratorService/RematchProducts": ("catalog",),
    "OrchestratorService/AnnotateVideo": ("options.catalog",),
    "OrchestratorService/StreamAnnotateVideo": ("config.options.catalog",),
    "ProductMatcherService/MatchProducts": ("catalog",),
    "ProductMatcherService/SearchProducts": ("catalog",),
    "ProductCatalogService/CreateCatalog": ("catalog_id",),
    "ProductCatalogService/GetCatalog": ("name",),
    "ProductCatalogService/ListCatalogs": (),
    "ProductCatalogService/DeleteCatalog": ("name",),
    "ProductCatalogService/UpsertProducts": ("config.catalog", "upsert.product.name"),
    "ProductCatalogService/GetProduct": ("name",),
    "ProductCatalogService/ListProducts": ("parent",),
    "ProductCatalogService/DeleteProduct": ("name",),
    "ProductCatalogService/CalibrateCatalog": ("config.catalog",),
    "ProductCatalogService/FindDuplicates": ("parent",),
    "ProductCatalogService/BackupCatalog": ("name",),
    "ProductCatalogService/RestoreCatalog": (
        "config.catalog",
        "record.header.catalog.name",
        "record.product.product.name",
    ),
}
FILES = (frame_decoder_pb2, object_detector_pb2, orchestrator_pb2, product_catalog_pb2, product_matcher_pb2)


def all_methods():
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


@pytest.mark.parametrize("rpc", PATHS)
def test_the_fields_that_name_a_catalogue_are_found(rpc: str):
    methods = {f"{method.containing_service.name}/{method.name}": method for method in all_methods()}
    assert {".".join(path) for path in catalog_paths(methods[rpc].input_type)} >= set(PATHS[rpc])
    assert methods.keys() == PATHS.keys()


def test_every_rpc_on_catalogues_names_one_or_is_about_all():
    for method in product_catalog_pb2.DESCRIPTOR.services_by_name["ProductCatalogService"].methods:
        service = method.containing_service.full_name
        assert catalog_paths(method.input_type) or (service, method.name) in ABOUT_ALL


def test_catalogues_are_read_from_requests():
    request = orchestrator_pb2.StreamAnnotateVideoRequest()
    assert list(named_catalogs(request)) == []
    request.config.options.catalog = "catalogs/summer"
    assert list(named_catalogs(request)) == ["summer"]
    assert list(named_catalogs(product_catalog_pb2.GetProductRequest(name="catalogs/a/products/b"))) == ["a"]
    assert list(named_catalogs(object_detector_pb2.GetDetectionModelRequest(name="models/detector"))) == []
    assert list(named_catalogs(common_pb2.Image())) == []


def jwks(*names: str) -> bytes:
    entries = [
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
        | {"kid": name}
        for name in names
    ]
    return json.dumps({"keys": entries}).encode()


def test_keys_at_an_address_are_fetched_once_kept_when_it_is_away_and_asked_for_sparingly(monkeypatch):
    asked: list[str] = []
    answers: list[bytes | OSError] = [OSError("away"), jwks("a"), OSError("away"), jwks("b")]

    def fetch(url: str) -> bytes:
        asked.append(url)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def names(source, **how) -> list[str | None]:
        return [key.key_id for key in await source.keys(**how)]

    async def scenario():
        source = key_sets.KeyAddress("https://issuer.example/keys", fetch=fetch)
        with pytest.raises(UnavailableError):
            await source.keys()
        with pytest.raises(UnavailableError):  # asked a moment ago
            await source.keys()
        monkeypatch.setattr(key_sets, "_AT_MOST_EVERY_S", -1.0)
        assert [await names(source), await names(source)] == [["a"], ["a"]]
        assert await names(source, newer=True) == ["a"]
        assert await names(source, newer=True) == ["b"]

    asyncio.run(scenario())
    assert len(asked) == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        b'{"keys": [7]}',
        b'{"keys": [{"kty": "EC"}]}',
    ],
)
def test_a_key_set_without_public_keys_is_refused(content: bytes):
    with pytest.raises(ConfigurationError):
        tokens.parse_key_set(content, "keys")


def test_a_short_rsa_key_is_refused():
    weak = rsa.generate_private_key(65537, 1024).public_key()
    entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(weak))
    with pytest.raises(ConfigurationError, match="2048 bits"):
        tokens.parse_key_set(json.dumps({"keys": [entry]}).encode(), "keys")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"auth_jwt_keys_url": "http://issuer.example"}, "auth_jwt_issuer"),
        (
            {"auth_jwt_keys_url": "http://i.example", "auth_jwt_issuer": "i", "auth_jwt_audience": "a"},
            "must begin with https://",
        ),
        (
            {
                "auth_jwt_keys_url": "https://i.example",
                "auth_jwt_issuer": "i",
                "auth_jwt_audience": "a",
                "auth_jwt_algorithms": ["HS256"],
            },
            "auth_jwt_algorithms",
        ),
        ({"auth_callers_file": Path("/nowhere/callers.toml")}, "/nowhere/callers.toml: No such file"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Authenticator(ServerSettings(**settings))
