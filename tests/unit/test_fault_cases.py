"""The table of faults names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
CASES = TESTS / "faults" / "CASES.md"
_NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    lines = CASES.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0].isdigit()]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_a_row_with_a_status_and_a_test():
    assert [int(row[0]) for row in rows()] == list(range(1, len(rows()) + 1))
    assert len(rows()) >= 20
    for _, fault, status, *_, tests in rows():
        assert fault
        assert status
        assert _NAMED.findall(tests), fault


def test_every_test_that_is_named_exists():
    named = _NAMED.findall(CASES.read_text(encoding="utf-8"))
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(TESTS / path)]
    assert not missing
