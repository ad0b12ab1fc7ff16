"""Models that are loaded, unloaded, rolled to a new version and broken on a real Triton, while the detector serves."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.inference_calls import REPOSITORY, eventually
from shoppable.detector.settings import DetectorSettings
from shoppable.local import processes
from shoppable.local.inference import InferenceServerSettings, ServerState
from shoppable.local.triton import TritonServer
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton
from shoppable.v1 import object_detector_pb2 as pb
from support.detecting import WEARABLES, Detector, detail, detector, grey, until

STUB = "triton_python_backend_stub"


@pytest.fixture(autouse=True)
def _triton_runs() -> None:
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of the smaller detector alone, which tests may change."""
    folder = tmp_path / "models" / WEARABLES
    shutil.copytree(REPOSITORY / WEARABLES, folder)
    return folder.parent


def add_version(repository: Path, version: int) -> None:
    shutil.copytree(repository / WEARABLES / "1", repository / WEARABLES / str(version))


@contextlib.asynccontextmanager
async def triton_of(repository: Path) -> AsyncIterator[TritonServer]:
    watchful = InferenceServerSettings(watch_interval_s=0.05, stop_grace_s=0.2, probe_interval_s=0.3)
    async with await TritonServer.start(
        repository=repository, backends=REPOSITORY.parent / "backends", settings=watchful, model_control=True
    ) as server:
        yield server


def serving(server: TritonServer, packaged: Path) -> contextlib.AbstractAsyncContextManager[Detector]:
    return detector(server.grpc_endpoint, models=[packaged])


async def listed(service: Detector) -> pb.DetectionModel:
    return (await service.stub.GetDetectionModel(pb.GetDetectionModelRequest(name=WEARABLES))).model


@pytest.fixture
def manifest() -> Path:
    """The packaged manifest of the model."""
    return DetectorSettings().models[0] / WEARABLES / "shoppable.toml"


async def test_rolling_to_a_new_version_drops_no_call(repository: Path, manifest: Path) -> None:
    async with triton_of(repository) as server, serving(server, manifest) as service:
        versions: list[str] = []
        health: set[str] = set()
        done = asyncio.Event()

        async def calls() -> None:
            while not done.is_set():
                answer = await service.detect(grey(1))  # raises if it fails
                versions.append(answer.models[0].version)
                health.add(await service.health())

        async def frames() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
            yield pb.StreamDetectObjectsRequest(config=pb.DetectionOptions())
            number = 0
            while not done.is_set():
                frame = pb.DetectionFrame(frame_id=number, image=grey(1))
                yield pb.StreamDetectObjectsRequest(frame=frame)
                number += 1
                await asyncio.sleep(0.01)

        async def stream() -> list[int]:
            answers = [answer async for answer in service.stub.StreamDetectObjects(frames(), timeout=60)]
            return [answer.frame.result.status.code for answer in answers[1:]]

        callers = [asyncio.create_task(calls()) for _ in range(3)]
        streaming = asyncio.create_task(stream())
        await until(lambda: answered(versions, "1"))
        add_version(repository, 2)
        async with InferenceServerClient(server.grpc_endpoint) as operator:
            await operator.load_model(WEARABLES)
        await until(lambda: answered(versions, "2"))
        done.set()
        await asyncio.gather(*callers)
        codes = await streaming
        assert set(codes) == {0}
        assert len(codes) > 5
        assert set(versions) == {"1", "2"}
        assert health == {"SERVING"}
        assert (await listed(service)).version == "2"


async def answered(versions: list[str], version: str) -> bool:
    await asyncio.sleep(0.01)
    return versions.count(version) > 5


async def test_unloaded_model_is_not_served_and_told_as_such_until_it_is_loaded(
    repository: Path, manifest: Path
) -> None:
    async with triton_of(repository) as server, serving(server, manifest) as service:
        assert await service.health() == "SERVING"
        async with InferenceServerClient(server.grpc_endpoint) as operator:
            await operator.unload_model(WEARABLES)
            await until(lambda: health_is(service, "NOT_SERVING"))
            await until(lambda: reason_has(service, "it is unloaded on Triton"))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await service.detect(grey(1))
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            await operator.load_model(WEARABLES)
        await until(lambda: health_is(service, "SERVING"))
        assert len((await service.detect(grey(1))).results) == 1
        model = await listed(service)
        assert (model.ready, model.not_ready_reason, model.version) == (True, "", "1")


async def test_model_that_cannot_be_loaded_is_told_with_triton_s_reason(repository: Path, manifest: Path) -> None:
    async with triton_of(repository) as server, serving(server, manifest) as service:
        async with InferenceServerClient(server.grpc_endpoint) as operator:
            await operator.unload_model(WEARABLES)
            (repository / WEARABLES / "1" / "model.onnx").write_bytes(b"not a model")
            await until(lambda: health_is(service, "NOT_SERVING"))
            with pytest.raises(InferenceServerException):
                await operator.load_model(WEARABLES)
        await until(lambda: reason_has(service, "Triton could not load it"))
        reason = (await listed(service)).not_ready_reason
        assert "cannot load model.onnx" in reason
        assert str(repository) not in reason
        assert len(reason) < 400


async def test_new_version_that_cannot_be_loaded_leaves_the_old_one_serving(repository: Path, manifest: Path) -> None:
    async with triton_of(repository) as server, serving(server, manifest) as service:
        add_version(repository, 2)
        (repository / WEARABLES / "2" / "model.onnx").write_bytes(b"not a model")
        async with InferenceServerClient(server.grpc_endpoint) as operator:
            with pytest.raises(InferenceServerException):
                await operator.load_model(WEARABLES)
        for _ in range(3):
            assert (await service.detect(grey(1))).models[0].version == "1"
            assert await service.health() == "SERVING"


async def test_version_can_be_asked_for_and_one_that_is_not_there_is_not_found(
    repository: Path, manifest: Path
) -> None:
    add_version(repository, 2)
    config = repository / WEARABLES / "configs" / "cpu.pbtxt"
    config.write_text(config.read_text().replace("latest { num_versions: 1 }", "all {}"))
    async with triton_of(repository) as server, serving(server, manifest) as service:
        assert (await service.detect(grey(1))).models[0].version == "2"
        old = await service.detect(grey(1), model_versions={WEARABLES: "1"})
        assert [(model.name, model.version) for model in old.models] == [(WEARABLES, "1")]
        assert (await service.stream([grey(1)], model_versions={WEARABLES: "1"}))[0].models.models[0].version == "1"
        assert (await listed(service)).version == "2"
        for call in (
            service.detect(grey(1), model_versions={WEARABLES: "3"}),
            service.stream([grey(1)], model_versions={WEARABLES: "3"}),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
            info = detail(raised.value, error_details_pb2.ResourceInfo)
            assert info.resource_name == f"{WEARABLES}/versions/3"
        # Asking for a version that is not there harms nobody.
        assert await service.health() == "SERVING"
        assert (await listed(service)).ready


async def test_triton_that_is_killed_under_load_costs_only_retriable_errors(repository: Path, manifest: Path) -> None:
    async with triton_of(repository) as server, serving(server, manifest) as service:
        outcomes: list[bool] = []
        done = asyncio.Event()

        async def calls() -> None:
            while not done.is_set():
                try:
                    await service.detect(grey(1))
                    outcomes.append(True)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE
                    assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
                    outcomes.append(False)
                    await asyncio.sleep(0.05)

        callers = [asyncio.create_task(calls()) for _ in range(4)]
        await eventually(lambda: len(outcomes) > 10, what="calls are answered")
        assert all(outcomes)
        assert server.server_pid is not None
        os.kill(server.server_pid, signal.SIGKILL)
        await eventually(lambda: server.state is ServerState.RESTARTING, what="noticed")
        await eventually(lambda: server.state is ServerState.READY, what="restarted")
        count = len(outcomes)
        await eventually(lambda: len(outcomes) > count + 20 and all(outcomes[-10:]), what="calls are answered again")
        done.set()
        await asyncio.gather(*callers)
        await until(lambda: health_is(service, "SERVING"))


async def test_triton_that_dies_in_the_middle_of_a_roll_comes_back_with_the_new_version(
    repository: Path, manifest: Path
) -> None:
    async with triton_of(repository) as server, serving(server, manifest) as service:
        assert (await service.detect(grey(1))).models[0].version == "1"
        before = server.server_pid
        assert before is not None
        add_version(repository, 2)
        async with InferenceServerClient(server.grpc_endpoint) as operator:
            rolling = asyncio.create_task(operator.load_model(WEARABLES))
            # Its instances are processes: the roll has begun when one of the new version is there.
            await eventually(lambda: len(processes.children_named(before, name=STUB)) > 2, what="the roll begins")
            assert not rolling.done()
            os.kill(before, signal.SIGKILL)
            with pytest.raises(InferenceServerException):
                await rolling
        await eventually(lambda: server.state is ServerState.RESTARTING, what="noticed")
        await eventually(lambda: server.state is ServerState.READY, what="restarted")
        await until(lambda: health_is(service, "SERVING"))
        assert (await service.detect(grey(1))).models[0].version == "2"


async def health_is(service: Detector, status: str) -> bool:
    return await service.health() == status


async def reason_has(service: Detector, text: str) -> bool:
    return text in (await listed(service)).not_ready_reason


async def test_commands_load_roll_and_unload(repository: Path) -> None:
    async def command(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shoppable.cli", "models", *words, "--triton-endpoint", server.grpc_endpoint),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async with triton_of(repository) as server:
        add_version(repository, 2)
        assert await command("load", WEARABLES) == (0, f"{WEARABLES} is loaded, version 2\n")
        assert await command("unload", WEARABLES) == (0, f"{WEARABLES} is unloaded\n")
        async with asyncio.timeout(30):
            while "unavailable  unloaded" not in (listing := await command("list"))[1]:
                assert listing[0] == 0
                assert "unloading" in listing[1]
        code, said = await command("load", "nothing")
        assert code == 1
        assert said.startswith("error: Triton at unix:")
        assert "nothing" in said
