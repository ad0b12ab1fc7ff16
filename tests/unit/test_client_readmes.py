"""The example of each client's README is the program that its tests run."""

import re
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[2] / "clients"
EXAMPLES = {
    "go": "examples/annotate/main.go",
    "typescript": "examples/annotate.ts",
    "java": "src/test/java/dev/shoppable/examples/Annotate.java",
}
TAGS = {"go": "go", "typescript": "ts", "java": "java"}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("client", EXAMPLES)
def test_the_readme_shows_lines_of_the_example_in_their_order(client):
    readme = (CLIENTS / client / "README.md").read_text()
    shown = lines(re.search(rf"```{TAGS[client]}\n(.*?)```", readme, re.DOTALL)[1])
    assert len(shown) >= 9
    program = lines((CLIENTS / client / EXAMPLES[client]).read_text())
    start = program.index(shown[0])
    assert program[start : start + len(shown)] == shown


def test_every_client_is_listed():
    overview = (CLIENTS / "README.md").read_text()
    for folder in CLIENTS.iterdir():
        if folder.is_dir():
            assert f"({folder.name}/README.md)" in overview
