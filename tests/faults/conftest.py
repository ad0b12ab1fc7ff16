"""One suite with faulty hops for all fault tests, and a look at it after each of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from faults.harness import FaultySuite, Finding
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--findings", type=Path, help="write what the faults came to, as JSON, to this file")


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> Iterator[list[Finding]]:
    """The rows of the reliability page."""
    found: list[Finding] = []
    yield found
    if path := pytestconfig.getoption("findings", default=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(finding) for finding in found], indent=1) + "\n")


@pytest.fixture(scope="session")
def faulty(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySuite]:
    """The suite with the sample catalogue in it; tests must leave it running and well."""
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))
    with FaultySuite(tmp_path_factory.mktemp("faulty"), (samples,)) as suite:
        asyncio.run(suite.import_samples(samples))
        yield suite


@pytest.fixture
async def fault(faulty: FaultySuite, findings: list[Finding], request: pytest.FixtureRequest) -> AsyncIterator[Finding]:
    """The row of the reliability page that the test fills in. Afterwards the suite must be well by itself."""
    await faulty.until_well()
    before = faulty.holdings()
    finding = Finding(fault=request.node.name, caller_sees="")
    yield finding
    await faulty.until_well()
    await faulty.until_nothing_is_left(before)
    if finding.caller_sees:
        findings.append(finding)
