"""What is beside the contract agrees with it: service configs, REST paths, names for generated code."""

import importlib.resources
import json
import re
from pathlib import Path

import pytest
from google.api import annotations_pb2

from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)

PROTOS = Path(__file__).parents[2] / "protos" / "shoppable" / "v1"
MODULES = (
    common_pb2,
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)
METHODS = {
    (service.full_name, method.name): method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
CONFIGS = {path.name.removesuffix(".service_config.json"): path for path in PROTOS.glob("*.service_config.json")}
# Repeating these would cost more than it mends, unless their server let them go unanswered.
DEAR = {"AnnotateVideo"}
STREAMS_THAT_WRITE = {"UpsertProducts", "CalibrateCatalog", "RestoreCatalog"}


def policies() -> dict[tuple[str, str], dict]:
    listed = [
        ((name["service"], name["method"]), policy)
        for path in CONFIGS.values()
        for policy in json.loads(path.read_text())["methodConfig"]
        for name in policy["name"]
    ]
    assert len(listed) == len(dict(listed)), "a method is listed twice"
    return dict(listed)


def test_every_proto_is_tested_here():
    assert {Path(module.DESCRIPTOR.name).name for module in MODULES} == {path.name for path in PROTOS.glob("*.proto")}


def test_a_service_config_lies_beside_each_proto_that_has_a_service_and_names_only_its_methods():
    with_service = {
        Path(module.DESCRIPTOR.name).stem: set(module.DESCRIPTOR.services_by_name.values())
        for module in MODULES
        if module.DESCRIPTOR.services_by_name
    }
    assert set(CONFIGS) == set(with_service)
    for stem, services in with_service.items():
        names = {
            (name["service"], name["method"])
            for policy in json.loads(CONFIGS[stem].read_text())["methodConfig"]
            for name in policy["name"]
        }
        assert names == {(service.full_name, method.name) for service in services for method in service.methods}


@pytest.mark.parametrize("name", METHODS, ids=lambda name: name[1])
def test_each_method_has_a_deadline_and_is_retried_only_if_that_is_safe(name):
    policy, method = policies()[name], METHODS[name]
    assert 0 < float(re.fullmatch(r"(\d+)s", policy["timeout"])[1]) <= 86400
    streams = method.client_streaming or method.server_streaming
    assert ("retryPolicy" in policy) == (method.name not in STREAMS_THAT_WRITE)
    if "retryPolicy" in policy:
        # CANCELLED, where the caller did not cancel, is how a server that ends lets go of what it has not begun. Any
        # further code may mean that the call was carried out.
        codes = ["CANCELLED"] if streams or method.name in DEAR else ["UNAVAILABLE", "CANCELLED"]
        assert policy["retryPolicy"]["retryableStatusCodes"] == codes
        assert 2 <= policy["retryPolicy"]["maxAttempts"] <= 5


def test_the_clients_copy_has_all_methods():
    text = importlib.resources.files("shoppable.client").joinpath("service_config.json").read_text()
    config = json.loads(text)
    names = {(name["service"], name["method"]) for policy in config["methodConfig"] for name in policy["name"]}
    assert names == set(METHODS)
    # All that one replica had in work may fail at once and must not stop the others from being retried.
    assert config["retryThrottling"] == {"maxTokens": 100, "tokenRatio": 0.1}
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]


def rules(method) -> list:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


@pytest.mark.parametrize("name", METHODS, ids=lambda name: name[1])
def test_each_unary_method_has_a_rest_path_of_its_request_and_no_stream_has_one(name):
    method = METHODS[name]
    found = rules(method)
    assert bool(found) == (not method.client_streaming and not method.server_streaming)
    fields = method.input_type.fields_by_name
    for rule in found:
        path = getattr(rule, rule.WhichOneof("pattern"))
        assert path.startswith("/v1/")
        assert {variable.partition("=")[0] for variable in re.findall(r"\{([^}]+)\}", path)} <= set(fields)
        assert rule.body in {"", "*"} | set(fields)
        assert bool(rule.body) == (rule.WhichOneof("pattern") == "post")


def test_no_rest_path_leads_to_two_methods():
    paths = [
        (rule.WhichOneof("pattern"), re.sub(r"\{\w+", "{", getattr(rule, rule.WhichOneof("pattern"))))
        for method in METHODS.values()
        for rule in rules(method)
    ]
    assert len(paths) == len(set(paths))


def test_generated_code_of_other_languages_has_one_home():
    options = [module.DESCRIPTOR.GetOptions() for module in MODULES]
    assert {option.go_package for option in options} == {"shoppable.dev/client/shoppablev1;shoppablev1"}
    assert {option.java_package for option in options} == {"dev.shoppable.v1"}
    assert all(option.java_multiple_files for option in options)
