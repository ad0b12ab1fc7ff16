"""Derives the sync Python client from the async one, so that the two cannot differ.

The clients of single services are written once, with `async`; what an async client does by waiting, a sync one does
by blocking, and that is a change of words. Channels, streams and sources really differ: those are written twice.
"""

import re
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_CLIENT = _ROOT / "services/shoppable/client"
_CLIENTS = ("catalog", "decoder", "detector", "info", "matcher", "orchestrator")
PATHS = [f"services/shoppable/client/sync/{name}.py" for name in _CLIENTS]
_HEADER = "# Derived from {name} of the async client by `make gen`; never edited.\n"
_WORDS = (
    (r"AsyncGenerator\[(.+), None\]", r"ResponseStream[\1]"),
    (r"async def", "def"),
    (r"async for", "for"),
    (r"async with", "with"),
    (r"\bawait ", ""),
    (r"AsyncIterable", "Iterable"),
    (r"AsyncIterator", "Iterator"),
    (r"grpc\.aio\.", "grpc."),
    (r"from shoppable\.client\.(sources|streams) import", r"from shoppable.client.sync.\1 import"),
    (r"import call_stream\b", "import ResponseStream, call_stream"),
    (r"AsyncGenerator(, )?", ""),
    (r"^from collections\.abc import (.*)$", lambda match: _imports(match[1])),
)


def make(root: Path) -> None:
    """Write the sync clients below a folder that stands for the checkout."""
    for name, path in zip(_CLIENTS, PATHS, strict=True):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_HEADER.format(name=f"{name}.py") + _derive((_CLIENT / f"{name}.py").read_text()))
        # Shorter words make shorter lines.
        subprocess.run(["ruff", "format", "--quiet", "--config", _ROOT / "pyproject.toml", target], check=True)


def _derive(source: str) -> str:
    for pattern, replacement in _WORDS:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    return source


def _imports(names: str) -> str:
    return f"from collections.abc import {', '.join(sorted(set(filter(None, names.split(', ')))))}"
