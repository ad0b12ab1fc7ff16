"""The client comes with the base install: importing it needs gRPC and protobuf, and nothing else."""

import json
import subprocess
import sys

import pytest

LIGHT = {"shoppable", "grpc", "grpc_status", "google", "typing_extensions"}
LIGHT |= {"grpc_tools", "grpc_health", "grpc_reflection"}  # grpc imports these by itself where they are installed
PROGRAM = """
import sys, json
before = set(sys.modules)
import {module}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


@pytest.mark.parametrize("module", ["shoppable", "shoppable.client", "shoppable.client.sync"])
def test_importing_the_client_imports_nothing_heavy(module):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], check=True, capture_output=True, text=True
    )
    imported = {name for name in json.loads(done.stdout) if not name.startswith(("_", "cython_runtime"))}
    assert imported - sys.stdlib_module_names <= LIGHT
