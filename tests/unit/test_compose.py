"""compose.yaml, the gateway and what is mounted beside them fit their schemas and our own code."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from shoppable.cli.serve import SERVICES
from support.dockerfile import lineage, read_stages
from support.service_settings import settings_of

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SECURE = yaml.safe_load((DEPLOY / "compose.secure.yaml").read_text())
STAGES = read_stages(DEPLOY / "Dockerfile")
VARIABLES = {"TRITON_ADMIN_KEY": "secret", "SHOPPABLE_SECRETS": "/secrets"}


def image_variables(service: str) -> dict[str, str]:
    steps = [step for stage in lineage(STAGES, service) for step in stage.steps]
    return dict(part.split("=", 1) for name, rest in steps if name == "ENV" for part in rest.split())


@pytest.mark.parametrize("name", ["compose.yaml", "compose.secure.yaml"])
def test_a_file_fits_the_schema_of_compose(name: str):
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def has_docker_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.secure.yaml"]])
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_docker_compose_takes_the_files(files: list[str], profile: str):
    paths = [str(DEPLOY / name) for name in files]
    own = ROOT / ".build" / "bin" / "compose-config"
    if has_docker_compose():
        named = [word for path in paths for word in ("-f", path)]
        command = ["docker", "compose", *named, "--profile", profile, "config", "--format", "json"]
    elif own.exists():
        command = [str(own), profile, *paths]
    else:
        pytest.skip("needs docker compose, or its library: `make deploy-tools` builds that where Go is installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **VARIABLES})
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert {*SERVICES, f"triton-{profile}", "qdrant", "prometheus", "grafana", "collector"} <= services.keys()
    assert ("gateway" in services) == (len(files) == 1)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("secure", [False, True])
def test_a_service_understands_all_that_it_is_told_and_is_open_only_where_it_says_so(service: str, secure: bool):
    variables = image_variables(service) | COMPOSE["services"][service]["environment"]
    if secure:
        variables |= SECURE["services"][service]["environment"]
    settings = settings_of(service, variables)
    assert settings.host == "0.0.0.0"
    assert settings.allow_insecure is not secure
    assert bool(settings.tls_certificate_file and settings.auth_callers_file) is secure


def test_services_are_called_by_the_names_and_ports_that_they_have():
    orchestrator = settings_of("orchestrator", COMPOSE["services"]["orchestrator"]["environment"]).model_dump()
    for service in ("decoder", "detector", "matcher"):
        port = settings_of(service, {}).port
        assert orchestrator[f"{service}_endpoint"] == f"dns:///{service}:{port}"


def test_what_is_mounted_is_there_and_nothing_is_published_beyond_this_machine():
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), (name, source)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_prometheus_scrapes_every_service_at_its_port():
    config = yaml.safe_load((DEPLOY / "observability/prometheus/prometheus.yaml").read_text())
    jobs = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    targets = {target for entry in jobs["shoppable"] for target in entry["targets"]}
    assert targets == {f"{name}:{image_variables(name)['SHOPPABLE_METRICS_PORT']}" for name in SERVICES}


def transcoder(envoy: dict[str, Any]) -> dict[str, Any]:
    manager = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return next(item for item in manager["http_filters"] if "transcoder" in item["name"])["typed_config"]


# Refuses fields that Envoy does not have, and types that it does not know inside of Any.
PARSING = """
import importlib, json, sys
from google.protobuf import json_format
for module in ("filters.network.http_connection_manager.v3.http_connection_manager", "filters.http.cors.v3.cors",
               "filters.http.grpc_web.v3.grpc_web", "filters.http.grpc_json_transcoder.v3.transcoder",
               "filters.http.router.v3.router", "upstreams.http.v3.http_protocol_options"):
    importlib.import_module(f"envoy.extensions.{module}_pb2")
from envoy.config.bootstrap.v3 import bootstrap_pb2
json_format.ParseDict(json.load(sys.stdin), bootstrap_pb2.Bootstrap())
"""


def test_the_gateway_s_configuration_is_envoy_s():
    messages = ROOT / ".build" / "xds"
    if not messages.is_dir():
        pytest.skip(
            "needs Envoy's messages: `make check-deploy` installs them apart, since they bring others' packages"
        )
    done = subprocess.run(
        [sys.executable, "-S", "-c", PARSING], env={"PYTHONPATH": str(messages)},
        input=json.dumps(yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text())),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_gateway_names_services_that_its_descriptors_hold():
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors().file:
        pool.Add(file)
    for name in transcoder(yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text()))["services"]:
        assert pool.FindServiceByName(name).methods


def descriptors() -> FileDescriptorSet:
    specification = importlib.util.spec_from_file_location("descriptor_set", ROOT / "tools" / "descriptor_set.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.descriptor_set()
