"""The Helm chart: what it makes fits Kubernetes' schemas, our settings, Triton's flags and the design's paths."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shoppable.cli.serve import SERVICES
from support.service_settings import settings_of

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "shoppable"
VERSIONS = ("1.28", "1.33")
VALUE_SETS = ("default", "cpu", "full", "mesh")
# Kinds that others' operators define; their schemas are not Kubernetes' own.
FOREIGN = {"ServiceMonitor", "PrometheusRule", "Certificate"}
# caller -> called, by the design; the orchestrator asks Triton for what is sensitive. The world is whoever the operator
# lets in.
PATHS = {
    ("world", "orchestrator"), ("world", "matcher"), ("orchestrator", "decoder"), ("orchestrator", "detector"),
    ("orchestrator", "matcher"), ("orchestrator", "triton"), ("detector", "triton"), ("matcher", "triton"),
    ("matcher", "qdrant"), ("qdrant", "qdrant"),
}  # fmt: skip


def tool(name: str) -> str:
    built = ROOT / ".build" / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: `make check-deploy` builds it where Go is installed")
    return found


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with a stand-in for Qdrant's, which only `helm dependency build` can fetch."""
    folder = tmp_path_factory.mktemp("chart") / "shoppable"
    shutil.copytree(CHART, folder)
    (dependency,) = yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]
    stand_in = folder / "charts" / dependency["name"]
    stand_in.mkdir(parents=True)
    stand_in.joinpath("Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": dependency["name"], "version": dependency["version"]})
    )
    return folder


def helm(verb: str, chart: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [tool("helm"), verb, *(["shop"] if verb == "template" else []), str(chart), "--kube-version", "1.33.0"]
    return subprocess.run([*words, "-n", "video", *arguments], capture_output=True, text=True, check=False)


def values(name: str) -> list[str]:
    return [] if name == "default" else ["-f", str(CHART / "ci" / f"{name}-values.yaml")]


def rendered(chart: Path, name: str) -> list[dict[str, Any]]:
    done = helm("template", chart, *values(name))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module", params=VALUE_SETS)
def objects(request: pytest.FixtureRequest, chart: Path) -> list[dict[str, Any]]:
    return rendered(chart, request.param)


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"].removeprefix("shop-"): item for item in objects if item["kind"] == kind}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("name", VALUE_SETS)
def test_helm_lint_has_nothing_to_say(chart: Path, name: str):
    done = helm("lint", chart, "--strict", *values(name))
    assert done.returncode == 0, done.stdout + done.stderr


def test_objects_fit_the_schemas_of_kubernetes(objects):
    for item in objects:
        for version in VERSIONS:
            if item["kind"] not in FOREIGN:
                kubernetes_validate.validate(item, version, strict=True)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Kubernetes' schemas as kubeconform wants them: each whole in itself, with the definitions that it refers to."""
    bundled = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / "v1.33.0-local-strict"
    folder = tmp_path_factory.mktemp("schemas")
    definitions = json.loads((bundled / "_definitions.json").read_text())["$defs"]

    def needed(part: Any, found: dict[str, Any]) -> None:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if key == "$ref" and isinstance(value, str):
                name = value.rpartition("/")[2]
                part[key] = f"#/$defs/{name}"
                if name not in found:
                    found[name] = copy.deepcopy(definitions[name])
                    needed(found[name], found)
            elif isinstance(value, (dict, list)):
                needed(value, found)

    for kind in ("deployment-apps", "horizontalpodautoscaler-autoscaling", "networkpolicy-networking",
                 "poddisruptionbudget-policy", "configmap", "secret", "service", "serviceaccount"):  # fmt: skip
        for file in bundled.glob(f"{kind}-v?.json"):
            schema, found = json.loads(file.read_text()), dict[str, Any]()
            needed(schema, found)
            del schema["$id"]  # references would be looked up on the web
            (folder / file.name).write_text(json.dumps(schema | {"$defs": found}))
    return f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def test_kubeconform_takes_the_objects(objects, schemas: str, tmp_path: Path):
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = subprocess.run(
        [
            tool("kubeconform"), "-strict", "-summary", "-kubernetes-version", "1.33.0", "-skip", ",".join(FOREIGN),
            "-schema-location", schemas, str(file),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0" in done.stdout


def test_every_service_is_there_with_all_that_belongs_to_it(objects):
    for kind in ("Deployment", "Service", "PodDisruptionBudget"):
        assert of_kind(objects, kind).keys() == {*SERVICES, "triton"}
    for name, service in of_kind(objects, "Service").items():
        assert service["spec"]["clusterIP"] == "None", name


def test_pods_have_no_rights_that_they_do_not_need(objects):
    for name, deployment in of_kind(objects, "Deployment").items():
        pod, only = deployment["spec"]["template"]["spec"], container(deployment)
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert only["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in only["resources"]["limits"]
        assert only.keys() >= {"startupProbe", "livenessProbe", "readinessProbe"}
        mounts = {mount["name"] for mount in only["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}


def variables(deployment: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item.get("value", "secret") for item in container(deployment)["env"]}


def test_services_understand_all_that_they_are_told(objects):
    deployments = of_kind(objects, "Deployment")
    ports = {name: {port["name"]: port["containerPort"] for port in container(deployments[name])["ports"]}
             for name in (*SERVICES, "triton")}  # fmt: skip
    for service in SERVICES:
        settings = settings_of(service, variables(deployments[service]))
        grace = deployments[service]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > settings.shutdown_delay_s + settings.shutdown_grace_s
        assert settings.port == ports[service]["grpc"]
        assert settings.allow_insecure or (settings.tls_certificate_file and settings.auth_callers_file)
        for name, endpoint in settings.model_dump().items():
            called = name.removesuffix("_endpoint")
            if name.endswith("_endpoint") and called in ports:
                assert endpoint == f"dns:///shop-{called}.video.svc:{ports[called]['grpc']}"


def test_triton_understands_its_flags(objects, tmp_path: Path):
    from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton

    try:
        triton = find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))
    binary = tmp_path / "tritonserver"  # the wheel's own may lack its run bit
    shutil.copyfile(triton.binary, binary)
    binary.chmod(0o755)
    told = subprocess.run(
        [binary, "--help"], capture_output=True, text=True, check=False,
        env={"LD_LIBRARY_PATH": os.pathsep.join(map(str, triton.library_folders))},
    )  # fmt: skip
    known = (told.stdout + told.stderr).split()
    assert "--model-repository" in known
    for flag in container(of_kind(objects, "Deployment")["triton"])["args"]:
        assert flag.partition("=")[0] in known, flag


def test_certificates_are_asked_for_under_the_names_that_are_called(chart: Path):
    objects = rendered(chart, "full")
    (certificate,) = of_kind(objects, "Certificate").values()
    names = set(certificate["spec"]["dnsNames"])
    for deployment in of_kind(objects, "Deployment").values():
        for name, value in variables(deployment).items():
            if name.endswith("_ENDPOINT") and "OTLP" not in name:
                assert value.removeprefix("dns:///").rpartition(":")[0] in names
    assert "shoppable.example.com" in names


def test_a_service_is_scaled_by_its_own_signal(chart: Path):
    autoscalers = of_kind(rendered(chart, "full"), "HorizontalPodAutoscaler")
    signals = {
        name: {
            metric.get("resource", {}).get("name") or metric["pods"]["metric"]["name"]
            for metric in item["spec"]["metrics"]
        }
        for name, item in autoscalers.items()
    }
    assert signals == {
        "orchestrator": {"shoppable_calls_in_work"},
        "decoder": {"cpu"},
        "detector": {"shoppable_calls_in_work", "cpu"},
        "matcher": {"shoppable_calls_in_work", "cpu"},
        "triton": {"nv_inference_pending_request_count"},
    }
    deployments = of_kind(rendered(chart, "full"), "Deployment")
    assert all("replicas" not in deployments[name]["spec"] for name in autoscalers)


def component(peer: dict[str, Any]) -> str:
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    if labels.get("app.kubernetes.io/name") == "qdrant":
        return "qdrant"
    return labels.get("app.kubernetes.io/component", "world")


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_the_network_lets_through_the_paths_of_the_design_and_no_others(chart: Path, direction: str):
    open_paths = set()
    for name, policy in of_kind(rendered(chart, "default"), "NetworkPolicy").items():
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        for rule in policy["spec"][direction]:
            peers = rule.get("from" if direction == "ingress" else "to")
            assert peers, f"{name} is open to all"
            for peer in peers:
                if "namespaceSelector" in peer:
                    continue  # monitoring, and the cluster's DNS
                open_paths.add((component(peer), name) if direction == "ingress" else (name, component(peer)))
    assert open_paths == {path for path in PATHS if direction == "ingress" or path[0] != "world"}


def test_the_gpu_is_asked_for_only_where_there_is_one(chart: Path):
    for name, wanted in (("default", True), ("cpu", False)):
        triton = container(of_kind(rendered(chart, name), "Deployment")["triton"])
        assert ("nvidia.com/gpu" in triton["resources"]["limits"]) is wanted
        assert ("--model-config-name=cpu" in triton["args"]) is not wanted


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["tls.enabled=false"], "refuse to listen without TLS"),
        (["auth.enabled=false"], "refuse to listen without TLS"),
        (["triton.mode=tpu"], "gpu or cpu"),
        (["qdrant.enabled=false"], "qdrantEndpoint"),
        (["tls.enabled=false", "allowInsecure=true"], "enable_tls"),
        (["auth.jwt.keysUrl=https://i.example"], "auth.jwt.issuer"),
    ],
)
def test_values_that_would_not_work_are_refused(chart: Path, flags: list[str], complaint: str):
    done = helm("template", chart, *(word for flag in flags for word in ("--set", flag)))
    assert done.returncode != 0
    assert complaint in done.stderr


def test_the_dependency_and_what_is_mounted_in_it_agree_with_our_own_values():
    own = yaml.safe_load((CHART / "values.yaml").read_text())
    (volume,) = own["qdrant"]["additionalVolumes"]
    assert volume["secret"]["secretName"] == own["tls"]["secretName"]
    assert own["qdrant"]["replicaCount"] == 3
