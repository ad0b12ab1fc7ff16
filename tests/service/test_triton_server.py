"""The real `tritonserver`: answers, confinement, recovery and what is left behind (nothing)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from service.inference_calls import MODELS, REPOSITORY, eventually, infer, noise
from shoppable.local import processes
from shoppable.local.inference import (
    InferenceServerError,
    InferenceServerSettings,
    ServerState,
    StateChange,
)
from shoppable.local.ports import ReservedPort
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[2] / "samples"
SHARED_MEMORY = Path("/dev/shm")
COCO_LAPTOP = 63
# Quick to notice and to try again; the rest is as in use.
WATCHFUL = InferenceServerSettings(
    watch_interval_s=0.05,
    probe_interval_s=0.5,
    probe_timeout_s=2.0,
    probe_timeouts_allowed=0,
    stop_grace_s=0.2,
)


def _missing_requirement() -> str:
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(_missing_requirement()), reason=_missing_requirement()),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[TritonServer]:
    async with await TritonServer.start(repository=REPOSITORY) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def changes() -> list[StateChange]:
    return []


@pytest_asyncio.fixture(loop_scope="module")
async def victim(changes: list[StateChange]) -> AsyncIterator[TritonServer]:
    """A server to harm."""
    async with await TritonServer.start(repository=REPOSITORY, settings=WATCHFUL, on_change=changes.append) as running:
        yield running


def _regions(server: TritonServer) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"{server.shared_memory_prefix}*"))


# --- answers ---


@pytest.mark.parametrize(("model", "side", "output", "shape"), MODELS)
async def test_batch_gives_the_results_of_single_images(
    server: TritonServer, model: str, side: int, output: str, shape: tuple[int, ...]
) -> None:
    images = noise(3, side)
    together = await infer(server.grpc_endpoint, model, images, output=output)
    assert together.shape == (3, *shape)
    assert together.dtype == np.float32
    singles = [await infer(server.grpc_endpoint, model, images[i : i + 1], output=output) for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(singles))


async def test_embeddings_have_norm_one(server: TritonServer) -> None:
    vectors = await infer(server.grpc_endpoint, "embedder", noise(2, 260))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "images", "status"),
    [
        pytest.param("unknown", noise(1, 8), "NOT_FOUND", id="unknown model"),
        pytest.param("embedder", noise(1, 64), "INVALID_ARGUMENT", id="wrong size"),
        pytest.param("embedder", noise(1, 260)[0], "INVALID_ARGUMENT", id="no batch dimension"),
        pytest.param("embedder", noise(9, 260), "INVALID_ARGUMENT", id="batch too large"),
        pytest.param("embedder", noise(1, 260)[:0], "INVALID_ARGUMENT", id="empty batch"),
        pytest.param("embedder", noise(1, 260).astype(np.float32), "INVALID_ARGUMENT", id="wrong type"),
    ],
)
async def test_unfit_request_is_refused(
    server: TritonServer, model: str, images: NDArray[np.generic], status: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await infer(server.grpc_endpoint, model, images)
    assert caught.value.status() == f"StatusCode.{status}"


async def test_coco_detector_finds_the_laptop_of_the_sample_film(server: TritonServer) -> None:
    film = SAMPLES / "film.mp4"
    if not film.exists():
        pytest.skip("the sample film is not in this checkout")
    truth = json.loads((SAMPLES / "ground_truth.json").read_text("utf-8"))["frames"][0]
    (box,) = (product["box"] for product in truth["products"] if product["coco_label"] == "laptop")
    with av.open(str(film)) as container:
        frame = next(container.decode(video=0)).reformat(width=512, height=288).to_ndarray(format="rgb24")
    image = np.zeros((1, 512, 512, 3), dtype=np.uint8)
    image[0, 112:400] = frame
    (candidates,) = await infer(server.grpc_endpoint, "detector_coco", image)
    laptops = candidates[(candidates[:, 5] == COCO_LAPTOP) & (candidates[:, 4] >= 0.4)]
    assert len(laptops)
    # 640x360 of the film became 512x288, with 112 rows of padding above.
    expected = np.array(box) * 0.8 + np.array([0, 112, 0, 112])
    assert max(_overlap(laptop[:4], expected) for laptop in laptops) > 0.6


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes of corners."""
    width, height = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])
    return float(width * height / (both - width * height))


async def test_metrics_are_served_to_prometheus(server: TritonServer) -> None:
    def fetch() -> str:
        assert server.metrics_endpoint is not None
        with urllib.request.urlopen(server.metrics_endpoint, timeout=10) as response:
            text: str = response.read().decode()
            return text

    assert 'nv_inference_request_success{model="embedder"' in await asyncio.to_thread(fetch)


async def test_inference_stands_back_for_the_services_on_the_same_machine(server: TritonServer) -> None:
    for pid in (server.server_pid, *server.stub_pids):
        assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_instances_can_be_set_without_touching_the_repository() -> None:
    async with await TritonServer.start(repository=REPOSITORY, instances=1) as small:
        assert len(small.stub_pids) == len(MODELS)


# --- confinement ---


async def test_only_the_metrics_can_be_reached_by_others(server: TritonServer) -> None:
    """Inference, and the interfaces through which Triton was attacked, are behind a socket in a private folder."""
    assert server.server_pid is not None
    addresses = {address for pid in (server.server_pid, *server.stub_pids) for address in _listening_addresses(pid)}
    assert {port for _, port in addresses} == {_port_of(server.metrics_endpoint)}
    socket = Path(server.grpc_endpoint.removeprefix("unix:"))
    assert socket.is_socket()
    assert socket.parent.stat().st_mode & 0o077 == 0
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # the second is the first, mapped into IPv6
    assert {host for host, _ in addresses} <= loopback


def _port_of(url: str | None) -> int:
    assert url is not None
    return int(url.removesuffix("/metrics").rpartition(":")[2])


def _command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def _listening_addresses(pid: int) -> set[tuple[str, int]]:
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if found := re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink())):
                sockets.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                host, _, port = fields[1].partition(":")
                addresses.add((host, int(port, 16)))
    return addresses


async def test_closed_calls_are_refused(server: TritonServer) -> None:
    async with triton.InferenceServerClient(server.grpc_endpoint) as client:
        for call in (
            client.update_log_settings({"log_verbose_level": 1}),
            client.get_inference_statistics(),
            client.load_model("../../etc"),
        ):
            with pytest.raises(InferenceServerException, match="protocol is restricted"):
                await call


async def test_closed_calls_stay_closed_to_a_reader_of_the_command_line(server: TritonServer) -> None:
    assert server.server_pid is not None
    (option,) = (word for word in _command_line(server.server_pid) if word.startswith("--grpc-restricted-protocol="))
    key, _, secret = option.partition(":")[2].partition("=")
    header = f"triton-grpc-protocol-{key}"
    async with triton.InferenceServerClient(server.grpc_endpoint) as client:
        with pytest.raises(InferenceServerException, match="protocol is restricted"):
            await client.get_inference_statistics(headers={header.lower(): secret})


async def test_regions_are_private_to_their_owner(server: TritonServer) -> None:
    regions = _regions(server)
    assert regions
    assert {region.stat().st_mode & 0o077 for region in regions} == {0}
    assert server.log_path.stat().st_mode & 0o077 == 0


# --- recovery ---


async def _recovery(server: TritonServer, changes: list[StateChange]) -> str:
    """Waits until the server was restarted; returns the reason it gave."""
    await eventually(lambda: len(changes) > 2 and changes[-1].state is ServerState.READY, what="ready again")
    assert (await infer(server.grpc_endpoint, "detector_coco", noise(1, 512))).shape == (1, 100, 6)
    return next(change.reason for change in changes if change.state is ServerState.RESTARTING)


async def test_server_recovers_at_the_same_address_when_a_stub_is_killed(
    victim: TritonServer, changes: list[StateChange]
) -> None:
    endpoint, metrics, old_stubs = victim.grpc_endpoint, victim.metrics_endpoint, victim.stub_pids
    os.kill(min(old_stubs), signal.SIGKILL)
    assert "process of a model died" in await _recovery(victim, changes)
    assert (victim.grpc_endpoint, victim.metrics_endpoint) == (endpoint, metrics)
    assert not any(processes.is_alive(pid) for pid in old_stubs)
    assert len(_regions(victim)) == len(victim.stub_pids)  # none is left of the first server
    await victim.stop()
    assert not _regions(victim)


async def test_server_recovers_when_it_is_killed(victim: TritonServer, changes: list[StateChange]) -> None:
    old_pid, old_stubs = victim.server_pid, victim.stub_pids
    assert old_pid is not None
    os.kill(old_pid, signal.SIGKILL)
    reason = await _recovery(victim, changes)
    # The guardian ends its models at once; which of the two is seen first is a matter of milliseconds.
    assert f"exit status {128 + signal.SIGKILL}" in reason or "process of a model died" in reason
    assert victim.server_pid != old_pid
    assert not any(processes.is_alive(pid) for pid in old_stubs)


async def test_server_recovers_when_a_model_hangs(victim: TritonServer, changes: list[StateChange]) -> None:
    hanging = [pid for pid in victim.stub_pids if "/embedder/" in _command_line(pid)[1]]
    assert len(hanging) == 2
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    assert (await _recovery(victim, changes)).startswith("embedder ")
    assert not any(processes.is_alive(pid) for pid in hanging)


async def test_server_recovers_when_it_hangs(victim: TritonServer, changes: list[StateChange]) -> None:
    assert victim.server_pid is not None
    os.kill(victim.server_pid, signal.SIGSTOP)
    assert "did not answer within 2 s" in await _recovery(victim, changes)


async def test_server_recovers_when_its_guardian_is_killed(victim: TritonServer, changes: list[StateChange]) -> None:
    old_pid, old_stubs = victim.server_pid, victim.stub_pids
    assert victim._process is not None
    os.kill(victim._process._process.pid, signal.SIGKILL)
    await _recovery(victim, changes)
    assert old_pid is not None
    # The stubs look for their server every now and then.
    await eventually(
        lambda: not any(processes.is_alive(pid) for pid in (old_pid, *old_stubs)), what="the old ones ended"
    )


async def test_failing_listener_does_not_stop_the_supervision() -> None:
    def fail(change: StateChange) -> None:
        raise RuntimeError(change.reason)

    async with await TritonServer.start(
        repository=REPOSITORY, instances=1, settings=WATCHFUL, on_change=fail
    ) as running:
        old_pid = running.server_pid
        assert old_pid is not None
        os.kill(old_pid, signal.SIGKILL)
        await eventually(
            lambda: running.state is ServerState.READY and running.server_pid != old_pid, what="ready again"
        )


# --- start and end ---


async def test_start_fails_with_the_reason_when_a_model_is_broken(tmp_path: Path) -> None:
    model = tmp_path / "models" / "embedder"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes(b"not a model")
    (model / "configs").mkdir()
    config = (REPOSITORY / "embedder" / "configs" / "cpu.pbtxt").read_text("utf-8")
    (model / "configs" / "cpu.pbtxt").write_text(config)
    with pytest.raises(InferenceServerError, match=r"embedder: cannot load .*model\.onnx"):
        await TritonServer.start(repository=tmp_path / "models", backends=REPOSITORY.parent / "backends")


async def test_start_fails_when_the_port_of_the_metrics_is_taken() -> None:
    taken = ReservedPort()
    taken._socket.listen()
    try:
        with pytest.raises(OSError, match="in use"):
            await TritonServer.start(repository=REPOSITORY, metrics_port=taken.number)
    finally:
        taken.release()


async def test_server_starts_where_no_socket_fits_into_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    async with await TritonServer.start(repository=REPOSITORY, instances=1) as running:
        assert running.state is ServerState.READY
        folder = running.log_path.parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert not list(deep.iterdir())


async def test_stop_leaves_nothing_behind() -> None:
    running = await TritonServer.start(repository=REPOSITORY, instances=1)
    pids = {running.server_pid, *running.stub_pids}
    await running.stop()
    await running.stop()
    assert not any(pid and processes.is_alive(pid) for pid in pids)
    assert not _regions(running)
    assert not running.log_path.parent.exists()


_PARENT = """
import asyncio, json, sys
from pathlib import Path
from shoppable.local.triton import TritonServer

async def main():
    server = await TritonServer.start(repository=Path(sys.argv[1]), instances=1)
    print(json.dumps({"pids": [server.server_pid, *server.stub_pids], "folder": str(server.log_path.parent),
                      "prefix": server.shared_memory_prefix}), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_nothing_outlives_a_parent_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(REPOSITORY), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        left = json.loads(await parent.stdout.readline())
    finally:
        parent.kill()
        await parent.wait()
    await eventually(lambda: not any(processes.is_alive(pid) for pid in left["pids"]), what="the processes ended")
    await eventually(lambda: not list(SHARED_MEMORY.glob(f"{left['prefix']}*")), what="the regions removed")
    await eventually(lambda: not Path(left["folder"]).exists(), what="the work folder removed")
