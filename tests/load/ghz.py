"""ghz, which asks one RPC for as much as it gives: how it is run, and what of its answer is kept."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CALLER = "ghz"
_CALL_LIMIT = "60s"


class LoadToolError(Exception):
    """A load tool is not here, or did not do its work; the text says why."""


@dataclass(frozen=True)
class Step:
    """How an RPC did with so many calls in work at a time.

    Attributes:
        concurrency: Calls in work at a time.
        seconds: From the first call to the last answer.
        codes: How many calls ended with which status.
        p50_ms, p95_ms, p99_ms: Latency of the calls that ended well; 0 if none did.
        cpu: Cores that each process had on average, by its name.
    """

    concurrency: int
    seconds: float
    codes: Mapping[str, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu: Mapping[str, float]

    @property
    def per_s(self) -> float:
        """Calls a second that ended well."""
        return self.codes.get("OK", 0) / self.seconds if self.seconds else 0.0


def find_tool(name: str) -> Path:
    """Return the path of ghz or k6.

    Raises:
        LoadToolError: It is not here.
    """
    built = ROOT / ".build" / "load" / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    if found is None:
        raise LoadToolError(f"{name} is not here: `make load` builds it where Go is installed")
    return Path(found)


async def run_ghz(
    address: str,
    path: str,
    schema: Sequence[str],
    requests: Path,
    *,
    concurrency: int,
    seconds: float,
    calls: int | None,
) -> dict[str, Any]:
    """Ask one RPC with `concurrency` calls in work, for a time or for so many calls, and return ghz' report.

    Raises:
        LoadToolError: ghz did not run.
    """
    much = ["--total", str(calls)] if calls else ["--duration", f"{seconds}s", "--duration-stop", "wait"]
    templated = [] if "{{" in requests.read_text() else ["--disable-template-data"]
    process = await asyncio.create_subprocess_exec(
        find_tool("ghz"), "--insecure", *schema, "--call", path, "--data-file", str(requests), *much, *templated,
        "--concurrency", str(concurrency), "--timeout", _CALL_LIMIT, "--max-recv-message-size", str(32 * 2**20),
        "--max-send-message-size", str(32 * 2**20), "--format", "json", address,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode or not output.strip().startswith(b"{"):
        raise LoadToolError(f"ghz ended with {process.returncode}: {(errors or output).decode()[-500:]}")
    return json.loads(output)  # type: ignore[no-any-return]


def step_of(report: Mapping[str, Any], concurrency: int, cpu_s: Mapping[str, float], wall_s: float) -> Step:
    """Return what a report of ghz says, with the CPU seconds that processes had meanwhile, in `wall_s` seconds."""
    calls = report["details"] or ()
    good = sorted(call["latency"] / 1e6 for call in calls if call["status"] == "OK")
    return Step(
        concurrency=concurrency,
        seconds=report["total"] / 1e9,
        codes=dict(Counter(call["status"] for call in calls)),
        p50_ms=percentile(good, 0.50),
        p95_ms=percentile(good, 0.95),
        p99_ms=percentile(good, 0.99),
        # A server works while it is asked; the caller also while it starts.
        cpu={name: spent / (wall_s if name == CALLER else report["total"] / 1e9) for name, spent in cpu_s.items()},
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the least value that is no smaller than `share` of all; 0 of none."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else 0.0
