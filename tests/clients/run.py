"""Runs the tests of every client, whose toolchain is here, against one real suite: `make test-clients`.

Python annotates the sample film first; what it reads is what the clients of all other languages must read. Where to
call, and what to expect, they learn from environment variables whose names begin with SHOPPABLE_TEST_.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
sys.path.insert(0, str(ROOT / "tests"))

from shoppable.client import CatalogClient, OrchestratorClient, open_channel  # noqa: E402  # tests/ has to be found
from shoppable.local.data_folder import Endpoints  # noqa: E402
from shoppable.local.suite import Inference, LocalSuite, SuiteError, SuiteOptions  # noqa: E402
from shoppable.v1 import orchestrator_pb2, product_catalog_pb2, product_matcher_pb2  # noqa: E402
from support.catalogs import CATALOG, sample_upserts  # noqa: E402

_LIMIT_S = 600
_TLS_START_LIMIT_S = 30


@dataclass(frozen=True)
class Language:
    """A client, what its tests need, and how they are run in its folder."""

    name: str
    folder: str
    tools: Sequence[str]
    commands: Sequence[Sequence[str]]


LANGUAGES = (
    Language("Python", ".", (), [[sys.executable, "-m", "pytest", "-q", "tests/clients/test_python.py"]]),
    Language("Go", "clients/go", ["go"], [["go", "vet", "./..."], ["go", "test", "-count=1", "./..."]]),
    Language("TypeScript", "clients/typescript", ["node", "npm"], [["npm", "ci"], ["npm", "test"]]),
    Language("Java", "clients/java", ["java", "mvn"], [["mvn", "--batch-mode", "--quiet", "verify"]]),
)


async def main(wanted: Sequence[str]) -> int:
    """Run the tests of the named languages, or of all, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="shoppable-clients-") as scratch:
        folder = Path(scratch)
        options = SuiteOptions(
            data_folder=folder / "data",
            log_folder=folder / "logs",
            file_roots=(SAMPLES,),
            inference=Inference(os.environ.get("SHOPPABLE_TEST_INFERENCE", "triton")),
        )
        try:
            async with LocalSuite(options, on_event=print) as suite, _tls_decoder(folder) as tls:
                variables = await _prepare(suite.endpoints, folder) | tls
                print(*(f"{name}={value}" for name, value in variables.items()), sep="\n")
                # In a thread: the loop goes on to look after the suite.
                results = await asyncio.to_thread(_run_all, wanted, variables)
        except SuiteError as error:
            print(f"the suite cannot run here, so no client can be tested: {error}", file=sys.stderr)
            return 1
    print("\n".join(results))
    return int(any(": FAILED" in result for result in results))


async def _prepare(endpoints: Endpoints, folder: Path) -> dict[str, str]:
    """Import the catalogue, annotate the film, and return the variables that tell of both."""
    film = SAMPLES / "film.mp4"
    async with open_channel(endpoints.matcher) as channel:
        config = product_catalog_pb2.UpsertProductsConfig(catalog=CATALOG, create_catalog_if_missing=True)
        async for response in CatalogClient(channel).upsert_products(config, _upserts()):
            if response.result.outcome == product_catalog_pb2.UPSERT_OUTCOME_FAILED:
                raise RuntimeError(response.result.status.message)
    async with open_channel(endpoints.orchestrator) as channel:
        options = orchestrator_pb2.AnnotateOptions(catalog=CATALOG)
        answers = OrchestratorClient(channel).stream_annotate(film, options, timeout_s=_LIMIT_S)
        objects = [answer.object async for answer in answers if answer.WhichOneof("response") == "object"]
    expected = folder / "expected.json"
    expected.write_text(json.dumps(essence(objects), indent=1))
    return {
        **{
            f"SHOPPABLE_TEST_{name.upper()}": getattr(endpoints, name)
            for name in ("orchestrator", "matcher", "decoder")
        },
        "SHOPPABLE_TEST_CATALOG": CATALOG,
        "SHOPPABLE_TEST_FILM": str(film),
        "SHOPPABLE_TEST_FILM_URI": film.as_uri(),
        "SHOPPABLE_TEST_EXPECTED": str(expected),
    }


async def _upserts() -> AsyncIterator[product_catalog_pb2.ProductUpsert]:
    for upsert in sample_upserts(SAMPLES):
        yield upsert


def essence(objects: Sequence[orchestrator_pb2.ShoppableObject]) -> list[dict[str, object]]:
    """Return what every client must read of a film's objects."""
    return [
        {
            "object_id": item.object_id,
            "label": item.label,
            "category": item.category,
            "decision": product_matcher_pb2.MatchDecision.Name(item.decision),
            "products": [match.product.name for match in item.products],
            "start_ms": item.segments[0].start.ToMilliseconds(),
        }
        for item in sorted(objects, key=lambda item: item.object_id)
    ]


@contextlib.asynccontextmanager
async def _tls_decoder(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """Serve a decoder with TLS while inside; yields the variables that tell of it, none without openssl."""
    if shutil.which("openssl") is None:
        print("openssl is not installed: the tests of TLS are skipped")
        yield {}
        return
    certificate, key, address = folder / "certificate.pem", folder / "key.pem", folder / "tls-address"
    _check(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ]
    )
    flags = {
        "port": "0",
        "address-file": address,
        "file-roots": SAMPLES,
        "tls-certificate-file": certificate,
        "tls-key-file": key,
    }
    command = [sys.executable, "-m", "shoppable.decoder", *(f"--{name}={value}" for name, value in flags.items())]
    process = subprocess.Popen(command, stderr=(folder / "tls-decoder.log").open("w"))
    try:
        async with asyncio.timeout(_TLS_START_LIMIT_S):
            while not address.exists():
                await asyncio.sleep(0.05)
        yield {"SHOPPABLE_TEST_TLS_DECODER": address.read_text(), "SHOPPABLE_TEST_TLS_ROOTS": str(certificate)}
    finally:
        process.terminate()
        process.wait()


def _check(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _run_all(wanted: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    chosen = [language for language in LANGUAGES if not wanted or language.name.lower() in wanted]
    return [f"{language.name}: {_run(language, variables)}" for language in chosen]


def _run(language: Language, variables: Mapping[str, str]) -> str:
    missing = [tool for tool in language.tools if shutil.which(tool) is None]
    if missing:
        return f"skipped: {missing[0]} is not installed"
    begun_s = time.monotonic()
    for command in language.commands:
        print(f"--- {language.name}: {' '.join(command)}", flush=True)
        try:
            done = subprocess.run(
                command, cwd=ROOT / language.folder, env={**os.environ, **variables}, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"FAILED: {command[0]} did not end within {_LIMIT_S} s"
        if done.returncode:
            return f"FAILED: {' '.join(command)}"
    return f"passed in {time.monotonic() - begun_s:.0f} s"


if __name__ == "__main__":
    sys.exit(asyncio.run(main([name.lower() for name in sys.argv[1:]])))
