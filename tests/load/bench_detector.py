"""The object detector's service against Triton driven directly, at the same concurrency: `make bench-detector`.

Both get the same pictures. Driven directly, Triton gets tensors that were prepared beforehand, one request for each
model, and its candidates are thrown away; the service gets pictures, prepares them, and suppresses and fuses what comes
back. They take turns in small portions, so that whatever else the machine does meets both. The figures are ratios. The
CPU time says what each part costs for a picture: where the models run on the same cores and those are all busy, the
ratio of all CPU time is what the throughput comes to, and it is far less noisy. Its last column compares with a caller
of Triton that has pictures, too, and must prepare them itself.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from detector_process import detector_process
from machine import cpu_seconds, machine
from PIL import Image
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from shoppable.client import open_channel
from shoppable.detector.letterbox import Letterbox
from shoppable.local.locations import MODEL_REPOSITORY, SAMPLES
from shoppable.local.service_process import ServiceProcess
from shoppable.local.triton import TritonServer
from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb
from shoppable.v1 import object_detector_pb2_grpc as pb_grpc

Pixels = npt.NDArray[np.uint8]
SIDES = {"detector_coco": 512, "detector_wearables": 300}
PICTURES = 16
GOALS = {"throughput": 0.95, "latency": 1.10}


@dataclass
class Runs:
    """What one way of asking took, portion by portion."""

    rates: list[float] = field(default_factory=list)  # pictures a second
    latencies_s: list[float] = field(default_factory=list)  # of a picture
    # CPU time for a picture, by whose it is.
    cpu_s: dict[str, list[float]] = field(default_factory=lambda: {"service": [], "Triton": [], "caller": []})


# Asks `count` times, with so many at a time, and returns the seconds that each took.
Driver = Callable[[int, int], Awaitable[list[float]]]


async def closed_loop(ask: Callable[[int], Awaitable[object]], count: int, concurrency: int) -> list[float]:
    """Keep `concurrency` requests going until `count` are answered."""
    numbers, took = iter(range(count)), []

    async def work() -> None:
        for number in numbers:
            started = time.perf_counter()
            await ask(number)
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return took


def prepared(picture: Pixels) -> dict[str, Pixels]:
    """Return the models' inputs for a picture."""
    height, width = picture.shape[:2]
    return {
        model: Letterbox.fit(width, height, input_width=side, input_height=side).draw(picture)
        for model, side in SIDES.items()
    }


class Direct:
    """Triton without the service: plain gRPC, tensors made beforehand, all models of a picture at once."""

    def __init__(self, client: InferenceServerClient, pictures: Sequence[Pixels]) -> None:
        self._client = client
        self._inputs = [prepared(picture) for picture in pictures]

    async def run(self, count: int, concurrency: int) -> list[float]:
        """See `Driver`."""
        return await closed_loop(self.ask, count, concurrency)

    async def ask(self, number: int) -> object:
        """Let all models look at a picture."""
        return await self._infer_all(self._inputs[number % len(self._inputs)])

    async def _infer_all(self, inputs: dict[str, Pixels]) -> object:
        return await asyncio.gather(*(self._infer(model, batch) for model, batch in inputs.items()))

    async def _infer(self, model: str, batch: Pixels) -> object:
        tensor = InferInput("images", list(batch.shape), "UINT8")
        tensor.set_data_from_numpy(batch)
        answer = await self._client.infer(model, [tensor], outputs=[InferRequestedOutput("candidates")])
        return answer.as_numpy("candidates")


class FromPictures(Direct):
    """The same by a caller that has pictures: it fits each into the models' inputs, in threads, as the service does."""

    def __init__(self, client: InferenceServerClient, pictures: Sequence[Pixels]) -> None:
        super().__init__(client, [])
        self._pictures = pictures

    async def ask(self, number: int) -> object:
        """Prepare a picture and let all models look at it."""
        picture = self._pictures[number % len(self._pictures)]
        return await self._infer_all(await asyncio.to_thread(prepared, picture))


class Unary:
    """The service, one picture a call."""

    def __init__(self, stub: pb_grpc.ObjectDetectorServiceStub, images: Sequence[common_pb2.Image]) -> None:
        self._stub = stub
        self._images = images

    async def run(self, count: int, concurrency: int) -> list[float]:
        """See `Driver`."""

        async def ask(number: int) -> object:
            return await self._stub.DetectObjects(pb.DetectObjectsRequest(images=[self._images[number % PICTURES]]))

        return await closed_loop(ask, count, concurrency)


class Streaming:
    """The service, one stream with so many frames on their way; a frame's time is from its sending to its result."""

    def __init__(self, stub: pb_grpc.ObjectDetectorServiceStub, images: Sequence[common_pb2.Image]) -> None:
        self._stub = stub
        self._images = images

    async def run(self, count: int, concurrency: int) -> list[float]:
        """See `Driver`."""
        slots, sent, took = asyncio.Semaphore(concurrency), [], []

        async def requests() -> AsyncIterator[pb.StreamDetectObjectsRequest]:
            yield pb.StreamDetectObjectsRequest(config=pb.DetectionOptions())
            for number in range(count):
                await slots.acquire()
                sent.append(time.perf_counter())
                frame = pb.DetectionFrame(frame_id=number, image=self._images[number % PICTURES])
                yield pb.StreamDetectObjectsRequest(frame=frame)

        async for answer in self._stub.StreamDetectObjects(requests()):
            if answer.HasField("frame"):
                took.append(time.perf_counter() - sent[answer.frame.frame_id])
                slots.release()
        return took


def pictures_of(film: Path) -> list[Pixels]:
    """Return some frames from all over a film."""
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[:: max(1, len(frames) // PICTURES)][:PICTURES]


def raw(pixels: Pixels) -> common_pb2.Image:
    """Return a picture as RGB24."""
    height, width = pixels.shape[:2]
    return common_pb2.Image(data=pixels.tobytes(), format=common_pb2.IMAGE_FORMAT_RGB24, width=width, height=height)


def jpeg(pixels: Pixels) -> common_pb2.Image:
    """Return a picture as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return common_pb2.Image(data=buffer.getvalue())


async def measure(film: Path, levels: Sequence[int], rounds: int, portion: int) -> dict[int, dict[str, Runs]]:
    """Take all ways of asking in turns, at each concurrency; the first round is a warm-up and is dropped."""
    pictures = pictures_of(film)
    results: dict[int, dict[str, Runs]] = {}
    async with contextlib.AsyncExitStack() as stack:
        triton = await stack.enter_async_context(await TritonServer.start(repository=MODEL_REPOSITORY))
        client = await stack.enter_async_context(InferenceServerClient(triton.grpc_endpoint))
        drivers: dict[str, tuple[Driver, ServiceProcess | None]] = {
            "direct": (Direct(client, pictures).run, None),
            "direct, from pictures": (FromPictures(client, pictures).run, None),
        }
        for memory in ("auto", "off"):
            service = await stack.enter_async_context(
                detector_process(
                    f"--triton-endpoint={triton.grpc_endpoint}",
                    f"--triton-shared-memory={memory}",
                    f"--frames-in-flight={max(levels)}",
                )
            )
            stub = pb_grpc.ObjectDetectorServiceStub(await stack.enter_async_context(open_channel(service.endpoint)))
            name = "" if memory == "auto" else ", plain gRPC"
            drivers[f"stream RGB24{name}"] = Streaming(stub, [raw(p) for p in pictures]).run, service
            if memory == "auto":
                drivers["unary RGB24"] = Unary(stub, [raw(p) for p in pictures]).run, service
                drivers["unary JPEG"] = Unary(stub, [jpeg(p) for p in pictures]).run, service
                drivers["stream JPEG"] = Streaming(stub, [jpeg(p) for p in pictures]).run, service
        for level in levels:
            results[level] = {name: Runs() for name in drivers}
            for number in range(rounds + 1):
                # Each round in another order: who comes first after a pause is faster on some machines.
                order = list(itertools.islice(itertools.cycle(drivers), number, number + len(drivers)))
                # So many that most of a portion is not its beginning or its end, when less is in work than asked for.
                count = max(portion, 4 * level)
                for name in order:
                    driver, service_ = drivers[name]
                    before = cpu_now(service_, triton)
                    started = time.perf_counter()
                    took = await driver(count, level)
                    seconds = time.perf_counter() - started
                    if number:
                        runs = results[level][name]
                        runs.rates.append(count / seconds)
                        runs.latencies_s.extend(took)
                        for whose, after in cpu_now(service_, triton).items():
                            runs.cpu_s[whose].append((after - before[whose]) / count)
    return results


def cpu_now(service: ServiceProcess | None, triton: TritonServer) -> dict[str, float]:
    """Return the CPU seconds that each has had until now."""
    return {
        "service": cpu_seconds(service.pid) if service and service.pid else 0.0,
        "Triton": sum(cpu_seconds(pid) for pid in (triton.server_pid, *triton.stub_pids) if pid),
        "caller": time.process_time(),
    }


def figures_of(results: dict[int, dict[str, Runs]]) -> list[dict[str, object]]:
    """Return one row for each concurrency and way of asking, with ratios to Triton driven directly."""
    rows: list[dict[str, object]] = []
    for level, ways in results.items():
        direct = ways["direct"]
        for name, runs in ways.items():
            # Of each round by itself: its portions were neighbours.
            ratios = [ours / theirs for ours, theirs in zip(runs.rates, direct.rates, strict=True)]
            latency = statistics.median(runs.latencies_s)
            cpu = {whose: statistics.mean(times) * 1000 for whose, times in runs.cpu_s.items()}
            bare, from_pictures = (
                sum(statistics.mean(times) * 1000 for times in ways[baseline].cpu_s.values())
                for baseline in ("direct", "direct, from pictures")
            )
            rows.append(
                {
                    "concurrency": level,
                    "asked": name,
                    "images/s": statistics.median(runs.rates),
                    "throughput ratio": statistics.median(ratios),
                    "median ms": latency * 1000,
                    "latency ratio": latency / statistics.median(direct.latencies_s),
                    **{f"{whose} CPU ms": value for whose, value in cpu.items()},
                    "ratio of CPU": bare / sum(cpu.values()),
                    "from pictures": from_pictures / sum(cpu.values()),
                }
            )
    return rows


def show(rows: Sequence[dict[str, object]], console: Console) -> None:
    """Print the table and how it stands with the goals."""
    table = Table(title="the detector's service and Triton driven directly")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "asked" else "right")
    last = rows[0]["concurrency"]
    for row in rows:
        if row["concurrency"] != last:
            table.add_section()
            last = row["concurrency"]
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    best = {
        name: max(float(str(r["throughput ratio"])) for r in rows if (r["asked"], r["concurrency"]) == (name, last))
        for name in dict.fromkeys(str(row["asked"]) for row in rows)
    }
    for name, ratio in best.items():
        if name.startswith("direct"):
            continue
        single = next(float(str(row["latency ratio"])) for row in rows if row["asked"] == name)
        console.print(
            f"{name}: {ratio:.2f} of Triton's throughput at concurrency {last} (goal {GOALS['throughput']}),"
            f" {single:.2f} of its median latency at {rows[0]['concurrency']} (goal {GOALS['latency']:.2f})"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, default=SAMPLES / "film.mp4", help="whose frames are asked about")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8], help="(default: 1 8)")
    parser.add_argument("--rounds", type=int, default=8, help="portions of each that count (default: %(default)s)")
    parser.add_argument("--portion", type=int, default=8, help="pictures in a portion, at least (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments.film, sorted(arguments.concurrency), arguments.rounds, arguments.portion))
    rows = figures_of(results)
    console = Console()
    show(rows, console)
    console.print(machine())
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
