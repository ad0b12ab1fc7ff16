"""How much each RPC gives, and what stops it: `make load`.

Starts a suite of its own on the loopback address, asks every RPC with ghz at growing numbers of calls in work, then
all of them at a time with k6, and a bare server beside them; writes a report in Markdown. Five minutes.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import scenarios
import sweep_report
from descriptor_set import descriptor_set
from ghz import CALLER, LoadToolError, Step, find_tool, run_ghz, step_of
from machine import machine
from material import prepare
from process_costs import cost_of_tree
from saturation import INFERENCE, failures

from shoppable.local.locations import SAMPLES
from shoppable.local.suite import SERVICES, LocalSuite, SuiteOptions

HERE = Path(__file__).parent
ECHOES = {"call, empty": ("Call", 0), "call, 100 kB": ("Call", 100_000), "stream, empty": ("Stream", 0)}
_ECHO_STEPS = (1, 4, 16)
_START_LIMIT_S = 20


class Meter:
    """Runs ghz and says what it and the processes of `pids` took meanwhile."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], seconds: float) -> None:
        self._pids = pids
        self._seconds = seconds

    async def sweep(
        self, address: str, path: str, schema: Sequence[str], requests: Path, steps: Sequence[int], calls: int | None
    ) -> list[Step]:
        """Ask an RPC at each step."""
        return [await self.step(address, path, schema, requests, step, calls) for step in steps]

    async def step(
        self, address: str, path: str, schema: Sequence[str], requests: Path, concurrency: int, calls: int | None
    ) -> Step:
        """Ask an RPC with so many calls in work."""
        before, began = self._spent(), time.monotonic()
        report = await run_ghz(
            address, path, schema, requests, concurrency=concurrency, seconds=self._seconds, calls=calls
        )
        wall_s, after = time.monotonic() - began, self._spent()
        return step_of(report, concurrency, {name: after[name] - before[name] for name in after}, wall_s)

    def _spent(self) -> dict[str, float]:
        own = os.times()
        caller = {CALLER: own.children_user + own.children_system}  # ghz has ended when this is read
        return caller | {name: cost_of_tree(pid).cpu_s for name, pid in self._pids().items()}


@asynccontextmanager
async def echo(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """The bare server, as a process; yields its address and its process."""
    address_file = folder / "echo-address"
    process = await asyncio.create_subprocess_exec(sys.executable, str(HERE / "echo_server.py"), str(address_file))
    try:
        async with asyncio.timeout(_START_LIMIT_S):
            while not address_file.exists():
                await asyncio.sleep(0.02)
        yield address_file.read_text(), process.pid
    finally:
        process.kill()
        await process.wait()


async def sweep_echo(folder: Path, seconds: float) -> dict[str, list[Step]]:
    """Sweep the bare server, with each kind of call."""
    results = {}
    async with echo(folder) as (address, pid):
        meter = Meter(lambda: {"echo": pid}, seconds)
        for kind, (method, size) in ECHOES.items():
            requests = folder / "echo.json"
            payload = {"data": base64.b64encode(bytes(size)).decode()}
            requests.write_text(json.dumps([payload] if method == "Stream" else payload))
            schema = ["--proto", str(HERE / "echo.proto")]
            results[kind] = await meter.sweep(address, f"load.Echo/{method}", schema, requests, _ECHO_STEPS, None)
    return results


async def sweep_suite(
    suite: LocalSuite, folder: Path, loads: Mapping[str, scenarios.Load], seconds: float, only: Sequence[str]
) -> dict[str, list[Step]]:
    """Sweep every RPC. What an RPC makes at a step, the one that deletes it takes away at the same step."""

    def pids() -> dict[str, int]:
        found = {name.replace("inference", INFERENCE): pid for name, pid in suite.pids.items()}
        return {name: pid for name, pid in found.items() if pid}

    meter = Meter(pids, seconds)
    schema = ["--protoset", str(folder / "shoppable.binpb")]
    results: dict[str, list[Step]] = {}
    for concurrency in scenarios.MANY:
        for server, method in scenarios.methods():
            load = loads[method.full_name]
            if concurrency not in load.steps or (only and method.name not in only):
                continue
            step = await meter.step(
                getattr(suite.endpoints, server),
                f"{method.containing_service.full_name}/{method.name}",
                schema,
                folder / f"{method.name}.json",
                concurrency,
                load.calls,
            )
            results.setdefault(method.full_name, []).append(step)
            print(
                f"{concurrency:3} at a time {step.per_s:8.1f}/s {step.p50_ms:8.1f} ms  {method.full_name}", flush=True
            )
    return results


async def mixed(suite: LocalSuite, folder: Path, seconds: int) -> dict[str, Any] | None:
    """Ask all RPCs at a time with k6, and return its summary; None where there is no k6."""
    try:
        k6 = find_tool("k6")
    except LoadToolError as error:
        print(error)
        return None
    summary = folder / "k6.json"
    addresses = json.dumps({name: getattr(suite.endpoints, name) for name in SERVICES})
    variables = {"REQUESTS": str(folder), "SECONDS": str(seconds), "ADDRESSES": addresses}
    process = await asyncio.create_subprocess_exec(
        k6, "run", "--quiet", "--no-usage-report", "--summary-export", str(summary),
        *(word for name, value in variables.items() for word in ("-e", f"{name}={value}")), str(HERE / "mixed.js"),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.wait()
    if not summary.exists():
        raise LoadToolError(f"k6 ended with {process.returncode} and wrote no summary")
    return json.loads(summary.read_text())["metrics"]  # type: ignore[no-any-return]


async def run(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """Sweep, and return the report, and what failed."""
    begun = time.monotonic()
    with TemporaryDirectory(prefix="shoppable-load-") as scratch:
        folder = Path(scratch)
        (folder / "shoppable.binpb").write_bytes(descriptor_set(scenarios.SERVERS.values()).SerializeToString())
        machine_then = machine()
        echoes = await sweep_echo(folder, arguments.seconds)
        options = SuiteOptions(data_folder=folder / "data", log_folder=folder / "logs", file_roots=(SAMPLES,))
        async with LocalSuite(options, on_event=print) as suite:
            material = await prepare(suite.endpoints)
            scenarios.write(folder, material)
            loads = scenarios.loads(material)
            steps = await sweep_suite(suite, folder, loads, arguments.seconds, arguments.only)
            together = await mixed(suite, folder, arguments.mixed_seconds)
    report = sweep_report.markdown(
        steps,
        echoes,
        loads,
        together,
        on=machine_then,
        cores=len(os.sched_getaffinity(0)),
        took_s=time.monotonic() - begun,
        mixed_s=arguments.mixed_seconds,
    )
    return report, failures(steps)


def main() -> int:
    """Write the report where the command line says; end with 1 if calls failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each step (default: %(default)s)")
    parser.add_argument("--mixed-seconds", type=int, default=15, help="of mixed traffic (default: %(default)s)")
    parser.add_argument("--only", nargs="*", default=(), help="names of RPCs, such as DetectObjects (default: all)")
    parser.add_argument("--report", type=Path, default=Path(".build/load/report.md"), help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        find_tool("ghz")
    except LoadToolError as error:
        print(f"nothing is measured: {error}")
        return 0
    report, failed = asyncio.run(run(arguments))
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(report)
    print(*failed, f"written to {arguments.report}", sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
