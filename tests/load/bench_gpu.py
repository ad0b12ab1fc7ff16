"""The detector on a GPU through Triton, in one go: `make bench-gpu`.

Frames a second by the size of a batch; what the dynamic batcher makes of single pictures; the whole service, pictures
in and boxes out; and decoding on the GPU. Triton is the wheel's, with ONNX Runtime's CUDA from the Python backend
(`configs/gpu-python.pbtxt`); with --triton-endpoint it is one that runs already, such as NVIDIA's image with TensorRT.
Without a GPU there is nothing to measure: one sentence, and status 0.
"""

import argparse
import asyncio
import contextlib
import ctypes
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import av
import numpy as np
import onnxruntime
from bench_detector import SIDES, Direct, Pixels, Streaming, closed_loop, jpeg, pictures_of, raw
from detector_process import detector_process
from google.protobuf import text_format
from machine import machine
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import InferInput, InferRequestedOutput, model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from shoppable.client import open_channel
from shoppable.local.locations import MODEL_REPOSITORY, SAMPLES
from shoppable.local.triton import TritonServer
from shoppable.v1 import object_detector_pb2_grpc as pb_grpc

COCO, SIDE = "detector_coco", 512
Rows = list[dict[str, object]]


def gpu_name() -> str | None:
    """Ask the driver for the first GPU's name; None if there is no driver or no GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, len(name), device):
        return "a GPU without a name"
    return name.value.decode(errors="replace")


@contextlib.asynccontextmanager
async def triton_with(*, config_name: str, batching: bool, instances: int | None) -> AsyncIterator[str]:
    """Run the wheel's Triton with the detectors, with or without the dynamic batcher."""
    with tempfile.TemporaryDirectory(prefix="shoppable-bench-") as folder:
        repository = Path(folder) / "models"
        for model in SIDES:
            source = MODEL_REPOSITORY / model
            text = (source / "configs" / f"{config_name}.pbtxt").read_text("utf-8")
            config = text_format.Parse(text, model_config_pb2.ModelConfig())
            if not batching:
                config.ClearField("dynamic_batching")
            target = repository / model / "configs" / f"{config_name}.pbtxt"
            target.parent.mkdir(parents=True)
            target.write_text(text_format.MessageToString(config), encoding="utf-8")
            (repository / model / "1").symlink_to(source / "1", target_is_directory=True)
        async with await TritonServer.start(
            repository=repository,
            backends=MODEL_REPOSITORY.parent / "backends",
            config_name=config_name,
            instances=instances,
            model_control=True,  # opens the statistics
        ) as server:
            yield server.grpc_endpoint


async def ask(client: InferenceServerClient, batch: Pixels) -> None:
    """Send one request to the COCO model."""
    tensor = InferInput("images", list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch)
    await client.infer(COCO, [tensor], outputs=[InferRequestedOutput("candidates")])


async def by_batch(endpoint: str, batches: Sequence[int], seconds: float) -> Rows:
    """Requests of several pictures each, four at a time so that the GPU never waits for the line."""
    rows: Rows = []
    async with InferenceServerClient(endpoint) as client:
        most = (await client.get_model_config(COCO)).config.max_batch_size
        for size in (size for size in batches if size <= most):
            batch = np.random.default_rng(size).integers(0, 256, (size, SIDE, SIDE, 3), np.uint8)

            async def request(_: int, batch: Pixels = batch) -> None:
                await ask(client, batch)

            rate, took = await rate_of(request, callers=4, seconds=seconds)
            rows.append({"batch": size, "frames/s": rate * size, "median ms": float(np.median(took)) * 1000})
    return rows


async def by_callers(endpoint: str, levels: Sequence[int], seconds: float, *, batching: bool) -> Rows:
    """Requests of one picture each, from several callers at a time."""
    rows: Rows = []
    picture = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    async with InferenceServerClient(endpoint) as client:

        async def request(_: int) -> None:
            await ask(client, picture)

        for callers in levels:
            before = await executions(client)
            rate, took = await rate_of(request, callers=callers, seconds=seconds)
            after = await executions(client)
            row: dict[str, object] = {"dynamic batcher": "on" if batching else "off", "callers": callers}
            row |= {"frames/s": rate, "median ms": float(np.median(took)) * 1000}
            if before and after and after[1] > before[1]:
                row["images a run"] = (after[0] - before[0]) / (after[1] - before[1])
            rows.append(row)
    return rows


async def executions(client: InferenceServerClient) -> tuple[int, int] | None:
    """Return how many images and how many runs there were, if Triton tells."""
    try:
        (told,) = (await client.get_inference_statistics(COCO)).model_stats
    except InferenceServerException:  # restricted
        return None
    return told.inference_count, told.execution_count


async def rate_of(request, *, callers: int, seconds: float) -> tuple[float, list[float]]:  # type: ignore[no-untyped-def]
    """Return requests a second and the time of each, after a warm-up, for about so many seconds."""
    await closed_loop(request, 2 * callers, callers)
    started = time.perf_counter()
    await closed_loop(request, 2 * callers, callers)
    count = max(4 * callers, int(seconds * 2 * callers / (time.perf_counter() - started)))
    started = time.perf_counter()
    took = await closed_loop(request, count, callers)
    return count / (time.perf_counter() - started), took


async def through_the_service(endpoint: str, film: Path, callers: int, seconds: float) -> Rows:
    """Several streams of frames, both models for each frame."""
    rows: Rows = []
    pictures = pictures_of(film)
    async with InferenceServerClient(endpoint) as client:
        rate, _ = await rate_of(Direct(client, pictures).ask, callers=callers, seconds=seconds)
        rows.append({"asked": f"Triton directly, {callers} at a time", "frames/s": rate})
    async with (
        detector_process(f"--triton-endpoint={endpoint}", "--frames-in-flight=32", "--images-in-work=128") as service,
        open_channel(service.endpoint) as channel,
    ):
        stub = pb_grpc.ObjectDetectorServiceStub(channel)
        for form, write in (("RGB24", raw), ("JPEG", jpeg)):
            images = [write(picture) for picture in pictures]
            streams = [Streaming(stub, images) for _ in range(4)]
            await asyncio.gather(*(stream.run(callers // 4, callers // 4) for stream in streams))
            count = max(callers // 2, int(seconds * rate / 4))
            started = time.perf_counter()
            await asyncio.gather(*(stream.run(count, callers // 4) for stream in streams))
            rows.append(
                {
                    "asked": f"the service, 4 streams of {form}",
                    "frames/s": 4 * count / (time.perf_counter() - started),
                }
            )
    for row in rows:
        row["ratio"] = float(str(row["frames/s"])) / rate
    return rows


def decoding(film: Path) -> Rows:
    """Decode a film on the CPU and on the GPU, frames left where they are."""
    rows: Rows = []
    for name in ("CPU, all cores", "GPU (NVDEC)"):
        hardware = None
        if name.startswith("GPU"):
            hardware = av.codec.hwaccel.HWAccel("cuda", allow_software_fallback=False)
        try:
            started, frames = time.perf_counter(), 0
            with av.open(str(film), hwaccel=hardware) as container:
                container.streams.video[0].thread_type = "AUTO"
                frames = sum(1 for _ in container.decode(video=0))
            rows.append({"decoded on": name, "frames/s": frames / (time.perf_counter() - started)})
        except (av.FFmpegError, RuntimeError, ValueError) as error:
            rows.append({"decoded on": name, "frames/s": f"not here: {error}"})
    return rows


async def measure(arguments: argparse.Namespace) -> dict[str, Rows]:
    """Measure all."""
    results: dict[str, Rows] = {}
    config, seconds = arguments.config_name, arguments.seconds
    if arguments.triton_endpoint:
        endpoint = arguments.triton_endpoint
        results["by batch size"] = await by_batch(endpoint, arguments.batches, seconds)
        results["single pictures"] = await by_callers(endpoint, arguments.callers, seconds, batching=True)
        results["the detector"] = await through_the_service(
            endpoint, arguments.film, max(4, *arguments.callers), seconds
        )
    else:
        async with triton_with(config_name=config, batching=False, instances=arguments.instances) as endpoint:
            results["by batch size"] = await by_batch(endpoint, arguments.batches, seconds)
            results["single pictures"] = await by_callers(endpoint, arguments.callers, seconds, batching=False)
        async with triton_with(config_name=config, batching=True, instances=arguments.instances) as endpoint:
            results["single pictures"] += await by_callers(endpoint, arguments.callers, seconds, batching=True)
            results["the detector"] = await through_the_service(
                endpoint, arguments.film, max(4, *arguments.callers), seconds
            )
    results["decoding"] = await asyncio.to_thread(decoding, arguments.film)
    return results


def show(title: str, rows: Sequence[dict[str, object]], console: Console) -> None:
    """Print a table."""
    table = Table(title=title)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        values = (row.get(column, "") for column in columns)
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, default=SAMPLES / "film.mp4")
    parser.add_argument("--seconds", type=float, default=5, help="for each figure (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="(default: 1 2 4 8 16)")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64], help="(default: 1 4 16 64)")
    parser.add_argument("--instances", type=int, help="of each model, instead of the configuration's")
    parser.add_argument("--triton-endpoint", help="of a Triton that runs already, in place of the wheel's")
    parser.add_argument(
        "--config-name", default="gpu-python", help="configuration for the wheel's; cpu tries this program out"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    gpu = gpu_name()
    if arguments.config_name != "cpu" and not arguments.triton_endpoint:
        if gpu is None:
            print("There is no GPU here, so there is nothing to measure.")
            return 0
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            print(
                f"There is {gpu}, but this ONNX Runtime cannot use it: install onnxruntime-gpu in place of onnxruntime,"
                " or give --triton-endpoint.",
                file=sys.stderr,
            )
            return 1
    results = asyncio.run(measure(arguments))
    console = Console()
    for title, rows in results.items():
        show(title, rows, console)
    where = f"{gpu or 'no GPU'}; {machine()}"
    console.print(where)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": where, **results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
