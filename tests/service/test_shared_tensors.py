"""Tensors through shared memory, with the real Triton: who owns a region when, and what is left behind (nothing)."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import tritonclient.grpc.aio as triton

from service.inference_calls import REPOSITORY, eventually, noise
from shoppable.local.inference import InferenceServerSettings, ServerState
from shoppable.local.triton import TritonServer
from shoppable.runtime import shared_regions
from shoppable.runtime.errors import DeadlineExceededError, UnavailableError
from shoppable.runtime.inference import Model
from shoppable.runtime.shared_regions import FOLDER, PREFIX, padded_bytes
from shoppable.runtime.triton_connection import TritonClient, TritonSettings, connect, is_this_host

IMAGE = noise(1, 260)
KEY_NAME, KEY = "shoppable-key", "not-so-secret"


def embedder(client: TritonClient, *, timeout_s: float = 30) -> Model:
    return Model(client, "embedder", input_name="images", output_name="embeddings", timeout_s=timeout_s)


def settings(endpoint: str, **values: Any) -> TritonSettings:
    return TritonSettings(triton_endpoint=endpoint, **values)


def files(pid: int | None = None) -> set[str]:
    """The regions in /dev/shm of a process, by default of this one."""
    return {path.name for path in FOLDER.glob(f"{PREFIX}{pid or os.getpid()}-*")}


async def registered(endpoint: str, headers: dict[str, str] | None = None) -> set[str]:
    """What Triton has mapped of ours, whoever registered it."""
    async with triton.InferenceServerClient(endpoint) as client:
        status = await client.get_system_shared_memory_status(headers=headers)
    return {name for name in status.regions if name.startswith(PREFIX)}


async def warm(model: Model, regions: int = 1) -> None:
    """Infer until so many regions are there."""
    async with asyncio.timeout(30):
        while len(files()) < regions:
            await asyncio.gather(*(model.infer(IMAGE) for _ in range(regions)))


async def until_forgotten(endpoint: str, names: set[str]) -> None:
    async with asyncio.timeout(10):
        while await registered(endpoint) & names:
            await asyncio.sleep(0.02)


async def test_answers_are_those_of_plain_grpc_and_nothing_is_left(triton_endpoint: str) -> None:
    async with connect(settings(triton_endpoint, triton_shared_memory="off")) as client:
        images = [noise(1, 260), noise(3, 260)[1:2], noise(2, 260)]  # two sizes
        plain = [await embedder(client).infer(image) for image in images]
        assert not files()
    async with connect(settings(triton_endpoint)) as client:
        model = embedder(client)
        for _ in range(3):  # the first time there is no region yet
            for image, expected in zip(images, plain, strict=True):
                np.testing.assert_array_equal(await model.infer(image), expected)
        assert len(files()) == 2
        assert files() <= await registered(triton_endpoint)
        assert {(FOLDER / name).stat().st_mode & 0o777 for name in files()} == {0o600}
        many = [noise(8, 260)[index : index + 1] for index in range(8)]
        together = await asyncio.gather(*(model.infer(image) for image in many * 4))
        singles = [await model.infer(image) for image in many]
        np.testing.assert_array_equal(np.concatenate(together), np.concatenate(singles * 4))
        mine = files()
        assert len(mine) > 2
    assert not files()
    assert not await registered(triton_endpoint) & mine


async def test_regions_are_used_again_and_bounded(triton_endpoint: str) -> None:
    async with connect(settings(triton_endpoint, triton_shared_memory_mb=1)) as client:
        model = embedder(client)
        await warm(model, regions=5)
        first = files()
        assert len(first) == 2**20 // padded_bytes(IMAGE)
        await asyncio.gather(*(model.infer(IMAGE) for _ in range(16)))
        assert files() == first


@pytest.mark.parametrize("end", ["cancelled", "out of time", "refused"])
async def test_region_of_a_call_that_was_not_answered_is_never_used_again(triton_endpoint: str, end: str) -> None:
    async with connect(settings(triton_endpoint)) as client:
        model = embedder(client)
        await warm(model)
        (name,) = files()
        if end == "cancelled":
            asked = asyncio.create_task(model.infer(IMAGE))
            await asyncio.sleep(0.002)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        elif end == "out of time":
            with pytest.raises(DeadlineExceededError):
                await embedder(client, timeout_s=0.002).infer(IMAGE)
        else:
            with pytest.raises(UnavailableError):
                await model.infer(IMAGE.reshape(1, 130, 520, 3))
        assert name not in files()
        await until_forgotten(triton_endpoint, {name})
        await warm(model)
        assert name not in files()
        await asyncio.gather(*(model.infer(IMAGE) for _ in range(4)))
        assert client._regions is not None
        assert client._regions._used_bytes == len(files()) * padded_bytes(IMAGE)


async def test_regions_of_a_killed_process_are_removed_by_the_next_one(triton_endpoint: str) -> None:
    async with connect(settings(triton_endpoint)) as living:
        await warm(embedder(living))
        ours = files()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _CHILD,
            triton_endpoint,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert child.stderr is not None
        try:
            assert await child.stderr.readline() == b"ready\n"
        finally:
            child.kill()
            await child.wait()
        left = files(child.pid)
        assert left
        assert left <= await registered(triton_endpoint)
        async with connect(settings(triton_endpoint)) as later:
            await embedder(later).infer(IMAGE)
            await until_forgotten(triton_endpoint, left)
        assert not files(child.pid)
        # Who lives keeps its own.
        assert files() == ours
        assert ours <= await registered(triton_endpoint)


_CHILD = """
import asyncio, sys
import numpy as np
from shoppable.runtime.inference import Model
from shoppable.runtime.shared_regions import FOLDER, PREFIX, padded_bytes
from shoppable.runtime.triton_connection import TritonSettings, connect

async def main():
    async with connect(TritonSettings(triton_endpoint=sys.argv[1])) as client:
        model = Model(client, "embedder", input_name="images", output_name="embeddings", timeout_s=30)
        for _ in range(3):
            await model.infer(np.zeros((1, 260, 260, 3), np.uint8))
        print("ready", file=sys.stderr, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_restarted_triton_gets_new_regions_and_no_call_fails_for_it(tmp_path: Path) -> None:
    watchful = InferenceServerSettings(watch_interval_s=0.05, stop_grace_s=0.2)
    async with await TritonServer.start(repository=REPOSITORY, instances=1, settings=watchful) as server:  # noqa: SIM117
        async with connect(settings(server.grpc_endpoint)) as client:
            model = embedder(client)
            await warm(model, regions=2)
            before, answer = files(), await model.infer(IMAGE)
            assert server.server_pid is not None
            os.kill(server.server_pid, signal.SIGKILL)
            await eventually(lambda: server.state is ServerState.RESTARTING, what="noticed")
            await eventually(lambda: server.state is ServerState.READY, what="restarted")
            assert files() == before
            answers = await asyncio.gather(*(model.infer(IMAGE) for _ in range(4)))
            np.testing.assert_array_equal(np.concatenate(answers), np.repeat(answer, 4, axis=0))
            await warm(model)
            assert files().isdisjoint(before)
            assert files() <= await registered(server.grpc_endpoint)


class RestrictedTriton(TritonServer):
    """Gives its shared memory only to those who know a key, as in a cluster."""

    def _command(self) -> Sequence[str]:
        restricted = "--grpc-restricted-protocol="
        others = [word for word in super()._command() if not word.startswith(restricted)]
        return (*others, f"{restricted}shared-memory:{KEY_NAME}={KEY}")


async def test_tensors_go_over_grpc_where_triton_refuses() -> None:
    async with await RestrictedTriton.start(repository=REPOSITORY, instances=1) as server:
        endpoint = server.grpc_endpoint
        for key in (None, f"{KEY_NAME}=wrong", f"{KEY_NAME}={KEY}"):
            with structlog.testing.capture_logs() as logs:
                async with connect(settings(endpoint, triton_key=key)) as client:
                    for _ in range(6):
                        assert (await embedder(client).infer(IMAGE)).shape == (1, 1280)
                    knows = key == f"{KEY_NAME}={KEY}"
                    assert bool(files()) == knows
                    assert await registered(endpoint, {f"triton-grpc-protocol-{KEY_NAME}": KEY}) == files()
            assert sum("tensors go over gRPC" in record["event"] for record in logs) == (0 if knows else 1)


async def test_full_shared_memory_is_no_reason_to_fail(triton_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    async with connect(settings(triton_endpoint)) as client:
        for _ in range(3):
            assert (await embedder(client).infer(IMAGE)).shape == (1, 1280)
    assert not files()


def test_only_regions_without_an_owner_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_regions, "FOLDER", tmp_path)
    held = shared_regions.Region(4096)
    (tmp_path / f"{PREFIX}1-dead").touch()
    (tmp_path / "others").touch()
    (tmp_path / f"{PREFIX}2-link").symlink_to(tmp_path / "others")
    assert shared_regions.remove_ownerless_regions() == 1
    assert {path.name for path in tmp_path.iterdir()} == {held.name, "others", f"{PREFIX}2-link"}
    held.remove()
    held.remove()
    assert not (tmp_path / held.name).exists()


@pytest.mark.parametrize(
    ("endpoint", "here"),
    [
        ("127.0.0.1:8001", True),
        ("127.1.2.3:8001", True),
        ("[::1]:8001", True),
        ("localhost:8001", True),
        ("unix:/run/triton/grpc:1", True),
        ("10.0.0.7:8001", False),
        ("triton:8001", False),
        ("dns:///triton.default.svc:8001", False),
    ],
)
def test_only_addresses_of_this_host_get_shared_memory_by_themselves(endpoint: str, here: bool) -> None:
    assert is_this_host(endpoint) is here
