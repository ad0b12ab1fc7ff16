"""Each video is decoded in a process of its own: what befalls one harms no other, and nothing of it stays behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from shoppable.runtime import metrics
from shoppable.v1 import common_pb2, frame_decoder_pb2_grpc
from support.decoder_calls import Decoder, config, refusal_of, requests, rest_of, running_decoder
from support.decoder_resources import until
from support.videos import Clip, encode

FILM = encode(Clip())
LONG = Clip(frames=600, size=(640, 480), gop=30, options={"preset": "ultrafast"})
Source = common_pb2.VideoSource


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    path.write_bytes(encode(LONG))
    return path


def children_of(process: int | str) -> set[int]:
    """Return the processes that a process has started and that still run."""
    found: set[int] = set()
    for thread in Path(f"/proc/{process}/task").iterdir():
        found.update(int(child) for child in (thread / "children").read_text().split())
    return {child for child in found if _state(child) not in {"Z", "X"}}


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"


def fork_server() -> int:
    """Return this process's only fork server."""
    (found,) = (child for child in children_of("self") if "forkserver" in _command(child))
    return found


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()


def workers() -> set[int]:
    return children_of(fork_server())


async def start(decoder: Decoder, path: Path):
    """Begin a call that decodes a film far ahead of its reader, and return it with its worker."""
    others = workers()
    wanted = config(Source(uri=path.as_uri()), every_nth_frame=1)
    call = decoder.stub.DecodeFrames(requests(wanted), timeout=30)
    await call.read()
    (worker,) = workers() - others
    return call, worker


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (signal.SIGSEGV, grpc.StatusCode.DATA_LOSS, "DECODER_CRASHED"),
        (signal.SIGABRT, grpc.StatusCode.DATA_LOSS, "DECODER_CRASHED"),
        (signal.SIGKILL, grpc.StatusCode.UNAVAILABLE, "WORKER_KILLED"),
        (signal.SIGXCPU, grpc.StatusCode.INVALID_ARGUMENT, "WORK_LIMIT"),
    ],
)
async def test_a_worker_that_is_ended_by_a_signal_ends_its_own_call_only(long_file, number, code, reason):
    async with running_decoder(long_file.parent) as decoder:
        other, _ = await start(decoder, long_file)
        call, worker = await start(decoder, long_file)
        with capture_logs() as logs:
            os.kill(worker, number)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rest_of(call)
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (code, reason)
        if reason == "DECODER_CRASHED":
            assert refusal.metadata == {"signal": number.name}
            assert [line["signal"] for line in logs if line["event"] == "a worker crashed"] == [number.name]
        rest = await rest_of(other)
        assert rest[-1].summary.frames_sent == 600
        assert len((await decoder.decode(FILM)).frames) == 15
        await until(lambda: not workers())


async def test_a_fork_server_that_is_killed_ends_its_calls_and_comes_back(long_file):
    async with running_decoder(long_file.parent) as decoder:
        call, worker = await start(decoder, long_file)
        before = fork_server()
        os.kill(before, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest_of(call)
        assert refusal_of(caught.value).code == grpc.StatusCode.UNAVAILABLE
        await until(lambda: _state(worker) in {"Z", "X"})
        assert len((await decoder.decode(FILM)).frames) == 15
        assert fork_server() != before


async def test_nothing_stays_behind_whatever_ends_a_call(long_file):
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    async with running_decoder(long_file.parent) as decoder:
        await decoder.decode(FILM)
        open_then = len(list(Path("/proc/self/fd").iterdir()))
        crashed, worker = await start(decoder, long_file)
        cancelled, _ = await start(decoder, long_file)
        os.kill(worker, signal.SIGSEGV)
        with pytest.raises(grpc.aio.AioRpcError):
            await rest_of(crashed)
        cancelled.cancel()
        await decoder.try_decode(b"no video")
        await until(lambda: not workers())
        await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= open_then)
        server = fork_server()
    assert _state(server) == "X"
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 2)  # gRPC's own come and go


async def test_a_cancelled_call_ends_its_worker_at_once(long_file):
    async with running_decoder(long_file.parent) as decoder:
        call, worker = await start(decoder, long_file)
        call.cancel()
        await until(lambda: _state(worker) == "X", limit_s=2)


async def test_a_worker_stands_back_for_its_service(long_file):
    async with running_decoder(long_file.parent) as decoder:
        _, worker = await start(decoder, long_file)
        assert os.getpriority(os.PRIO_PROCESS, worker) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_a_worker_inherits_no_secret_and_no_descriptor(long_file, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("SHOPPABLE_DECODER_SECRET", "a secret")
    async with running_decoder(long_file.parent) as decoder:
        _, other = await start(decoder, long_file)
        _, worker = await start(decoder, long_file)
        assert other != worker
        assert b"secret" not in Path(f"/proc/{fork_server()}/environ").read_bytes()
        held = [str(each.readlink()) for each in Path(f"/proc/{worker}/fd").iterdir()]
    kinds = sorted(name.partition(":")[0] for name in held)
    memory = [name for name in held if name.startswith("/memfd:shoppable-pictures")]
    # The slots' memory twice, since Python keeps a copy of what it maps; the socket to the service; the film.
    assert len(memory) == 2
    assert kinds.count("socket") == 1
    assert set(held) - set(memory) <= {"/dev/null", str(long_file), *(name for name in held if "socket" in name)}


async def test_the_workers_of_a_service_that_is_killed_end_with_it(long_file, tmp_path):
    address_file = tmp_path / "address"
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "shoppable.decoder", "--port=0", f"--file-roots={long_file.parent}"),
        *(f"--address-file={address_file}", "--log-level=error"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    await until(address_file.exists, limit_s=30)
    async with grpc.aio.insecure_channel(address_file.read_text().strip()) as channel:
        stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)
        call = stub.DecodeFrames(requests(config(Source(uri=long_file.as_uri()), every_nth_frame=1)), timeout=30)
        await call.read()
        (server,) = children_of(service.pid)
        (worker,) = children_of(server)
        service.kill()
        await service.wait()
        await until(lambda: {_state(server), _state(worker)} <= {"Z", "X"})
        call.cancel()


async def test_memory_over_the_limit_ends_the_call_with_the_limit():
    """A frame of 4096 x 2304 takes 14 MB, and the codec keeps several: more than fits into 128 MiB."""
    large = encode(Clip(frames=8, size=(4096, 2304), options={"preset": "ultrafast", "refs": "12"}))
    limit = 2**27
    async with running_decoder(max_video_memory_bytes=limit) as decoder:
        decoded = await decoder.try_decode(large, every_nth_frame=1, longest_side=64)
        refusal = refusal_of(decoded.error)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MEMORY_LIMIT")
        assert refusal.metadata == {"limit": str(limit)}
        assert len((await decoder.decode(FILM)).frames) == 15
    async with running_decoder() as decoder:
        assert len((await decoder.decode(large, every_nth_frame=1, longest_side=64)).frames) == 8


async def test_what_workers_count_is_counted_in_the_service():
    frames, sent = metrics.FRAMES_DECODED._value.get(), metrics.FRAMES_SENT._value.get()
    async with running_decoder() as decoder:
        await decoder.decode(FILM, every_nth_frame=3)
    assert metrics.FRAMES_DECODED._value.get() - frames == 30
    assert metrics.FRAMES_SENT._value.get() - sent == 10
