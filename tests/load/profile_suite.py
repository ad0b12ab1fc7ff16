"""Where the suite's CPU goes, by the library that runs: `make profile` (needs Linux's `perf`, and may need root).

Samples all processes of the suite while it annotates the sample film several times, and adds the samples up by service
and by the shared library in which they fell. gRPC with its HTTP/2 and (de)serialisation are libraries of their own, so
their share is counted, not estimated. What the kernel and the C library do for them (sockets, copies) cannot be told
from what they do for pictures: with all of it in the four services, the share is at most the second figure.
"""

import argparse
import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine import machine
from process_costs import tree
from rich.console import Console
from rich.table import Table
from traffic import FILM, SERVICES, loaded_suite

from shoppable.client import OrchestratorClient
from shoppable.v1 import orchestrator_pb2

# What a shared library is, by a part of its name; the first that fits.
KINDS = (
    ("gRPC", "cygrpc"),
    ("protobuf", "_message"),
    ("models", "onnxruntime"),
    ("Triton", "triton"),
    ("FFmpeg", r"libav|libsw|/av/|libx26"),
    ("index", "qdrant"),
    ("arrays, pictures", r"numpy|multiarray|umath|scipy|blas|imaging|jpeg|lapack|pocketfft"),
    ("Python", "python"),
    ("kernel", r"\[kernel|\[vdso"),
    ("C library", r"libc\.so|libc-|libstdc|ld-linux|libpthread|libm\.so"),
)
OTHER = "other"
_HZ = 499
_LINE = re.compile(r"\s*(\d+)\s+[0-9a-f]+ \((.+)\)")  # process, address, library
Shares = Mapping[tuple[str, str], float]  # of the suite's samples, by service and kind


def kind_of(library: str) -> str:
    """Return what a shared library is."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, library, re.IGNORECASE)), OTHER)


def add_up(samples: str, services: Mapping[int, str]) -> Shares:
    """Add up what `perf script -F pid,ip,dso` says. A process that was not there at the start decoded a film."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in samples.splitlines():
        if found := _LINE.match(line):
            counts[services.get(int(found[1]), "decoder"), kind_of(found[2])] += 1
    total = counts.total()
    return {place: count / total for place, count in counts.items()}


async def profile(films: int) -> Shares:
    """Annotate the film so often and return where the CPU went."""
    async with loaded_suite() as (suite, traffic, _):
        client: OrchestratorClient = traffic.orchestrator
        options = orchestrator_pb2.AnnotateOptions(catalog="catalogs/sample")

        async def annotate() -> None:
            async for _ in client.stream_annotate(FILM, options):
                pass

        await annotate()
        names = (*SERVICES, "inference")
        services = {pid: name for name in names for pid in tree(suite.pids[name] or 0)}
        with tempfile.TemporaryDirectory(prefix="shoppable-profile-") as folder:
            samples = Path(folder) / "perf.data"
            pids = ",".join(map(str, services))
            command = ["perf", "record", "-q", "-F", str(_HZ), "-e", "cpu-clock", "-p", pids, "-o", str(samples)]
            recording = await asyncio.create_subprocess_exec(*command)
            for _ in range(films):
                await annotate()
            recording.send_signal(signal.SIGINT)
            await recording.wait()
            script = ["perf", "script", "-F", "pid,ip,dso", "-i", str(samples)]
            told = await asyncio.to_thread(subprocess.run, script, capture_output=True, text=True, check=True)
    return add_up(told.stdout, services)


def show(shares: Shares, console: Console) -> dict[str, object]:
    """Print the table and return its figures."""
    kinds: Sequence[str] = [*(kind for kind, _ in KINDS), OTHER]
    services = sorted({service for service, _ in shares})
    table = Table(title="share of the suite's CPU, %")
    for column in ("", *services, "all"):
        table.add_column(column, justify="right" if column else "left")
    for kind in kinds:
        values = [100 * shares.get((service, kind), 0.0) for service in services]
        table.add_row(kind, *(f"{value:.1f}" for value in (*values, sum(values))))
    console.print(table)
    wire = sum(value for (_, kind), value in shares.items() if kind in {"gRPC", "protobuf"})
    around = sum(
        value for (service, kind), value in shares.items() if service in SERVICES and kind in {"kernel", "C library"}
    )
    console.print(
        f"gRPC and (de)serialisation: {wire:.1%} of the CPU; with all of kernel and C library {wire + around:.1%}"
    )
    console.print(f"({machine()})")
    return {
        "machine": machine(),
        "share": {service: {kind: shares.get((service, kind), 0.0) for kind in kinds} for service in services},
        "grpc_and_serialisation": wire,
        "at_most": wire + around,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=5, help="times that the film is annotated (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    arguments = parser.parse_args()
    if shutil.which("perf") is None:
        print("perf is not installed; Debian has it in the package linux-perf")
        return 1
    figures = show(asyncio.run(profile(arguments.films)), Console(stderr=arguments.json))
    if arguments.json:
        print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
