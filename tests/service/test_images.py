"""Builds each image's content in a clean folder, from its own lock, and starts the service from nothing but that.

It installs four environments, so it runs only when it is asked for: `make check-images`, or SHOPPABLE_TEST_IMAGES=1.
"""

import json
import os
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.dockerfile import Replay, read_stages

ROOT = Path(__file__).parents[2]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SHOPPABLE_TEST_IMAGES"),
        reason="installs four environments; ask for it with SHOPPABLE_TEST_IMAGES=1",
    ),
    pytest.mark.timeout(900),
]


@pytest.mark.parametrize(
    ("service", "health"),
    # Without the servers that they need, the others tell so.
    [("decoder", SERVING), ("detector", NOT_SERVING), ("matcher", NOT_SERVING), ("orchestrator", NOT_SERVING)],
)
def test_an_image_starts_and_tells_its_health(service: str, health: int, tmp_path: Path):
    replay = Replay(read_stages(ROOT / "deploy" / "Dockerfile"), ROOT, tmp_path)
    replay.build(service)
    process = replay.started(
        "--host=127.0.0.1", "--port=0", "--health-port=0", "--metrics-port=0", f"--health-timeout-s={2}"
    )
    try:
        assert process.stderr
        listening = next(
            record for record in map(json.loads, process.stderr) if record["event"] in ("listening", "cannot serve")
        )
        assert listening["event"] == "listening", listening
        with grpc.insecure_channel(listening["health_address"]) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()


def test_an_image_that_is_not_told_how_it_is_secured_refuses_to_start(tmp_path: Path):
    replay = Replay(read_stages(ROOT / "deploy" / "Dockerfile"), ROOT, tmp_path)
    replay.build("decoder")
    process = replay.started("--port=0", "--health-port=0", "--metrics-port=0")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "auth_callers_file" in log
