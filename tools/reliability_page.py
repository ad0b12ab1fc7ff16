"""Writes the reliability page from what the last runs found; a part that is not given stays as it is.

python tools/reliability_page.py PAGE.md [--faults FINDINGS.json ...] [--overload OVERLOAD.json] [--soak FOLDER]
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "load"))
from machine import machine

_HEAD = """# What happens when something breaks

Written by `make faults`, `make overload` and `make soak`; do not edit. `CASES.md` says which test shows what.
"""
_FAULTS = """## Faults

`make faults`, on {machine}. Each row is a test in this folder against the whole suite as real processes. Recovery is
from the end of the fault to the next whole answer, with nobody's help; "at once" where the answer itself was whole.
What was acknowledged and then lost: see the last column.

| fault | what the caller sees | recovery | lost |
| --- | --- | --- | --- |
"""
_OVERLOAD = """## Overload

`make overload`, on {machine}, one core for the callers alone.
Each service is asked at ten times its capacity in an open loop; goodput is what it still does, as a share of the most
that it did at any rate. Calls to others: for one call that was done, at the capacity and at ten times it; the same
number shows that there is no storm of retries.

| service | capacity, calls/s | goodput | refused after, p50 / p99 | refusals with RetryInfo | calls to others |
| --- | --- | --- | --- | --- | --- |
"""
_SOAK = """## Half an hour of work

`make soak`, on {machine}:
{minutes:g} minutes at {share:.0%} of the capacity of a mix of films, clips, searches and imports ({calls}).
How the calls ended: {codes}. Growth is to the last third from the first.

What processes hold goes up and down with the films in work; the table has its floor in the last third, which a leak
would raise (a tenth of the looks found less), and the picture all of it.

| process, with those that it started | memory | growth | descriptors |
| --- | --- | --- | --- |
{processes}

| call | median of the last third | p99 of all | growth |
| --- | --- | --- | --- |
{kinds}

The catalogues take {disk_mb:.1f} MB on the disk, {disk_growth:.2f} times those of the first third, and their logs
at most {log_mb:.0f} MB. A log grows to two segments of 32 MB, and then the older one is deleted.

![memory, descriptors, disk and latency over the run](soak.png)
"""
_PARTS = ("faults", "overload", "soak")


def main() -> None:
    """Read what is given and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--faults", type=Path, nargs="+")
    parser.add_argument("--overload", type=Path)
    parser.add_argument("--soak", type=Path, help="folder of soak.json and soak.png")
    arguments = parser.parse_args()
    page: Path = arguments.page
    parts = _parts_of(page.read_text(encoding="utf-8")) if page.exists() else {}
    if arguments.faults:
        parts["faults"] = _faults([row for path in arguments.faults for row in json.loads(path.read_text())])
    if arguments.overload:
        parts["overload"] = _overload(json.loads(arguments.overload.read_text()))
    if arguments.soak:
        parts["soak"] = _soak(json.loads((arguments.soak / "soak.json").read_text()))
        shutil.copyfile(arguments.soak / "soak.png", page.parent / "soak.png")
    text = [_HEAD, *(f"<!-- {name} -->\n{parts[name].strip()}\n" for name in _PARTS if name in parts)]
    page.write_text("\n".join(text), encoding="utf-8")
    print(f"{', '.join(parts)}: {page}")


def _parts_of(text: str) -> dict[str, str]:
    pieces = re.split(r"<!-- (\w+) -->\n", text)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def _faults(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| {row['fault']} | {row['caller_sees']} | {_seconds(row['recovery_s'])} | {row['lost']} |" for row in rows
    ]
    return _FAULTS.format(machine=machine()) + "\n".join(lines)


def _seconds(recovery_s: float | None) -> str:
    return "at once" if recovery_s is None else f"{recovery_s:.1f} s"


def _overload(measured: dict[str, Any]) -> str:
    lines = []
    for service, (goodput, steps) in measured["services"].items():
        below, last = steps[0], steps[-1]
        others = [name for name in last["calls"] if name != service and last["calls"][name] >= 0.1]
        calls = ", ".join(f"{name} {below['calls'][name]:.1f}, {last['calls'][name]:.1f}" for name in others)
        refused = f"{last['refused_p50_ms']:.0f} / {last['refused_p99_ms']:.0f} ms | {last['told_when']:.0%}"
        lines.append(f"| {service} | {steps[0]['done_per_s']:.1f} | {goodput:.2f} | {refused} | {calls or '-'} |")
    return _OVERLOAD.format(machine=measured["machine"]) + "\n".join(lines)


def _soak(found: dict[str, Any]) -> str:
    processes = [
        f"| {name} | {found['memory_mb'][name]:.0f} MB | {growth:.2f} | {found['descriptor_growth'][name]:+d} |"
        for name, growth in found["memory_growth"].items()
    ]
    kinds = [
        f"| {kind} | {found['latency_s'][kind]:.2f} s | {found['latency_p99_s'][kind]:.2f} s | {growth:.2f} |"
        for kind, growth in found["latency_growth"].items()
    ]
    counted = {name: ", ".join(f"{count} {what}" for what, count in found[name].items()) for name in ("calls", "codes")}
    return _SOAK.format_map(found | counted | {"processes": "\n".join(processes), "kinds": "\n".join(kinds)})


if __name__ == "__main__":
    main()
