"""Writes the reliability page from what the fault tests found: `make faults`.

python tools/reliability_page.py FINDINGS.json PAGE.md
"""

import argparse
import json
import os
import platform
from pathlib import Path

_HEAD = """# What happens when something breaks

Written by `make faults` from its last run ({machine}); do not edit. Each row is a test in this folder against the whole
suite as real processes. Recovery is from the end of the fault to the next whole answer, with nobody's help; "at once"
where the answer itself was whole. What was acknowledged and then lost: see the last column.

| fault | what the caller sees | recovery | lost |
| --- | --- | --- | --- |
"""


def main() -> None:
    """Read the findings and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    findings = json.loads(arguments.findings.read_text())
    machine = f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}"
    rows = [
        f"| {row['fault']} | {row['caller_sees']} | {_seconds(row['recovery_s'])} | {row['lost']} |" for row in findings
    ]
    arguments.page.write_text(_HEAD.format(machine=machine) + "\n".join(rows) + "\n")
    print(f"{len(rows)} faults: {arguments.page}")


def _seconds(recovery_s: float | None) -> str:
    return "at once" if recovery_s is None else f"{recovery_s:.1f} s"


if __name__ == "__main__":
    main()
