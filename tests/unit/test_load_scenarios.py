"""Load tests: every RPC has a load, ghz and k6 can send its requests, and what stops an RPC is told as it is."""

import json
import shutil
import subprocess
from pathlib import Path

import ghz
import pytest
import saturation
import scenarios
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

import shoppable.v1
from shoppable.v1 import orchestrator_pb2

ROOT = Path(__file__).parents[2]
MATERIAL = scenarios.Material(
    film_uri="file:///film.mp4",
    film=bytes(600_000),
    picture=b"picture",
    frame=b"frame",
    product_id="mug",
    found=[orchestrator_pb2.RematchObject(object_id="1")],
)
METHODS = {method.full_name: method for _, method in scenarios.methods()}


def test_every_rpc_has_a_load():
    served = set()
    for path in Path(shoppable.v1.__file__).parent.glob("*_pb2.py"):
        module = __import__(f"shoppable.v1.{path.stem}", fromlist=["DESCRIPTOR"])
        for service in module.DESCRIPTOR.services_by_name.values():
            served |= {method.full_name for method in service.methods}
    assert METHODS.keys() == served, "name the file of a new service in scenarios.SERVERS"
    assert scenarios.loads(MATERIAL).keys() == served, "a new RPC needs a Load in tests/load/scenarios.py"


@pytest.mark.parametrize("name", METHODS)
def test_requests_are_of_the_right_kind_and_survive_json(name: str):
    method, load = METHODS[name], scenarios.loads(MATERIAL)[name]
    assert {request.DESCRIPTOR for request in load.requests} == {method.input_type}
    assert len(load.requests) == 1 or method.client_streaming
    sent = json.loads(scenarios.as_json(load, method))
    again = [
        ParseDict(one, GetMessageClass(method.input_type)()) for one in (sent if method.client_streaming else [sent])
    ]
    assert again == list(load.requests)


def test_what_uses_something_up_is_bounded_by_what_was_made():
    loads = scenarios.loads(MATERIAL)
    for made, deleted in (("CreateCatalog", "DeleteCatalog"), ("UpsertProducts", "DeleteProduct")):
        pair = [loads[f"shoppable.v1.ProductCatalogService.{name}"] for name in (made, deleted)]
        assert pair[0].calls == pair[1].calls
        assert pair[0].calls
        assert pair[0].steps == pair[1].steps


def test_a_folder_of_requests_lists_every_rpc(tmp_path: Path):
    scenarios.write(tmp_path, MATERIAL)
    listed = json.loads((tmp_path / "rpcs.json").read_text())
    assert {one["path"].replace("/", ".") for one in listed} == METHODS.keys()
    for one in listed:
        assert isinstance(json.loads((tmp_path / f"{one['name']}.json").read_text()), list) is one["client_streams"]


def test_the_script_of_k6_is_a_module_that_parses(tmp_path: Path):
    if (node := shutil.which("node")) is None:
        pytest.skip("needs node")
    script = shutil.copy(ROOT / "tests" / "load" / "mixed.js", tmp_path / "mixed.mjs")
    done = subprocess.run([node, "--check", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def step(concurrency: int, calls: int, *, refused: int = 0, **cpu: float) -> ghz.Step:
    codes = {"OK": calls} | ({"ResourceExhausted": refused} if refused else {})
    return ghz.Step(concurrency, 1.0, codes, 1.0, 2.0, 3.0, cpu)


@pytest.mark.parametrize(
    ("steps", "at", "reason"),
    [
        ([step(1, 10, matcher=0.9), step(4, 10, matcher=0.9)], 1, "one core of the matcher"),
        ([step(1, 10, matcher=0.5), step(4, 20, matcher=0.5, Triton=1.4)], 4, "the machine's cores: Triton 1.40"),
        ([step(1, 10, matcher=0.2), step(4, 20, matcher=0.4)], 4, "nothing yet"),
        ([step(1, 10, matcher=0.2), step(4, 10, matcher=0.2)], 1, "no core: calls wait"),
        (
            [step(1, 10, matcher=0.2), step(4, 20, matcher=1.0, refused=7)],
            4,
            "the calls that the matcher takes at a time: 7 refused",
        ),
        ([step(1, 10, matcher=0.1, decoder=1.1), step(4, 10, matcher=0.1)], 1, "one core of the decoder"),
        ([step(1, 96, matcher=0.9), step(4, 100, matcher=0.9)], 1, "one core"),
    ],
)
def test_saturation_is_where_more_calls_bring_no_more_and_says_what_is_used_up(steps, at: int, reason: str):
    found = saturation.saturation(steps, "matcher", cores=2)
    assert found.step.concurrency == at
    assert found.reason.startswith(reason)


def test_calls_that_fail_are_told_and_refusals_are_none():
    failed = ghz.Step(4, 1.0, {"OK": 5, "Unavailable": 2}, 1.0, 2.0, 3.0, {})
    assert saturation.failures({"a": [step(1, 10, refused=3), failed]}) == [
        "a, 4 at a time: 2 calls ended with Unavailable"
    ]


def test_calls_per_core_count_what_the_process_itself_had():
    assert saturation.per_core(step(1, 100, matcher=0.5, Triton=1.5), "matcher") == 200
    assert saturation.per_core(step(1, 100), "matcher") == float("inf")


def test_a_report_of_ghz_counts_only_calls_that_ended_well_as_done():
    calls = [{"latency": 1e6 * number, "status": "OK"} for number in range(1, 101)]
    report = {"total": 2e9, "details": [*calls, {"latency": 1.0, "status": "Unavailable"}]}
    told = ghz.step_of(report, 4, {"matcher": 1.0, ghz.CALLER: 1.5}, wall_s=3.0)
    assert (told.per_s, told.p50_ms, told.p95_ms, told.p99_ms) == (50, 50, 95, 99)
    assert told.codes == {"OK": 100, "Unavailable": 1}
    assert told.cpu == {"matcher": 0.5, ghz.CALLER: 0.5}


def test_percentiles_of_few_values_are_among_them():
    assert ghz.percentile([], 0.5) == 0
    assert [ghz.percentile([1, 2, 3], share) for share in (0.5, 0.95, 0.99)] == [2, 3, 3]
