"""TLS between a service and a real Triton, with certificates of both sides."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.inference_calls import REPOSITORY, noise
from shoppable.local import inference
from shoppable.local.ports import LOOPBACK, ReservedPort
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton
from shoppable.runtime.errors import UnavailableError
from shoppable.runtime.inference import Model, UnknownModelError
from shoppable.runtime.settings import SettingsError, load
from shoppable.runtime.triton_connection import TritonSettings, connect

_OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(_OPENSSL is None, reason="needs openssl to make certificates")


def openssl(*arguments: object) -> None:
    subprocess.run([str(_OPENSSL), *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a certificate of it for either side, and an authority that signed neither."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "stranger"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={authority}"),
            *("-keyout", folder / f"{authority}.key", "-out", folder / f"{authority}.pem"),
        )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for side in ("triton", "service"):
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={side}"),
            *("-keyout", folder / f"{side}.key", "-out", folder / f"{side}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", folder / f"{side}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"),
            *("-CAcreateserial", "-days", "1", "-extfile", folder / "names", "-out", folder / f"{side}.pem"),
        )
    return folder


@pytest.fixture(scope="module")
def port() -> int:
    reserved = ReservedPort()
    reserved.release()
    return reserved.number


@pytest.fixture
async def endpoint(certificates: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A Triton that asks for a client's certificate, on a port, as on another host."""
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))

    class SecureTriton(TritonServer):
        @property
        def grpc_endpoint(self) -> str:
            return f"{LOOPBACK}:{port}"

        def _command(self) -> Sequence[str]:
            others = [word for word in super()._command() if not word.startswith(("--grpc-address", "--grpc-port"))]
            return (
                *others,
                f"--grpc-address={LOOPBACK}",
                f"--grpc-port={port}",
                "--grpc-use-ssl-mutual=true",
                f"--grpc-server-cert={certificates / 'triton.pem'}",
                f"--grpc-server-key={certificates / 'triton.key'}",
                f"--grpc-root-cert={certificates / 'ca.pem'}",
            )

    async def not_probed(*_: Any, **__: Any) -> None:
        """The launcher's probes speak no TLS."""

    monkeypatch.setattr(inference, "probe_model", not_probed)
    async with await SecureTriton.start(repository=REPOSITORY, instances=1) as server:
        yield server.grpc_endpoint


async def test_service_and_triton_show_each_other_their_certificates(endpoint: str, certificates: Path) -> None:
    good = {
        "peer_tls": True,
        "peer_ca_file": certificates / "ca.pem",
        "peer_certificate_file": certificates / "service.pem",
        "peer_key_file": certificates / "service.key",
    }
    async with connect(TritonSettings(triton_endpoint=endpoint, **good)) as client:  # type: ignore[arg-type]
        model = Model(client, "embedder", input_name="images", output_name="embeddings", timeout_s=30)
        async with asyncio.timeout(30):
            while True:  # nobody has waited for the models to load
                try:
                    answer = await model.infer(noise(1, 260))
                    break
                except (UnavailableError, UnknownModelError):
                    await asyncio.sleep(0.1)
        assert answer.shape == (1, 1280)
    bad: list[dict[str, Any]] = [
        {},
        {**good, "peer_ca_file": certificates / "stranger.pem"},
        {"peer_tls": True, "peer_ca_file": certificates / "ca.pem"},
    ]
    for settings in bad:
        async with connect(TritonSettings(triton_endpoint=endpoint, **settings)) as client:
            model = Model(client, "embedder", input_name="images", output_name="embeddings", timeout_s=5)
            with pytest.raises(UnavailableError):
                await model.infer(noise(1, 260))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--triton-key=Name=value"], "small letters"),
        (["--triton-key=value"], "name=value"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(flags: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        load(TritonSettings, flags, prog="test")
    assert "Name=value" not in str(raised.value)
