"""Short videos that are in work at the same time: they share the models' batches, and nobody gets another's answer."""

import asyncio
import urllib.request
from pathlib import Path

import pytest

from shoppable.cli.importing import import_feed
from shoppable.client import CatalogClient, OrchestratorClient, open_channel
from shoppable.local.locations import MODEL_REPOSITORY
from shoppable.local.suite import LocalSuite, SuiteOptions
from shoppable.local.triton_requirements import Host, TritonRequirementError, find_triton
from shoppable.v1 import common_pb2, orchestrator_pb2
from support.catalogs import CATALOG
from support.film_truth import seconds

STARTS_S = (0, 4, 9)
MODELS = ("detector_coco", "detector_wearables", "embedder")


@pytest.fixture
def batching_models(tmp_path: Path) -> Path:
    """The models as a GPU would run them: what arrives within 50 ms is one batch, computed in one run."""
    try:
        find_triton(Host.current())
    except TritonRequirementError as error:
        pytest.skip(str(error))
    repository = tmp_path / "models"
    (tmp_path / "backends").symlink_to(MODEL_REPOSITORY.parent / "backends")
    for name in MODELS:
        (repository / name / "configs").mkdir(parents=True)
        (repository / name / "1").symlink_to(MODEL_REPOSITORY / name / "1")
        text = (MODEL_REPOSITORY / name / "configs" / "cpu.pbtxt").read_text()
        one_by_one = 'parameters { key: "images_per_run" value { string_value: "1" } }'
        assert one_by_one in text
        text = text.replace(one_by_one, one_by_one.replace('"1"', '"8"'))
        text += "dynamic_batching { max_queue_delay_microseconds: 50000 }\n"
        (repository / name / "configs" / "cpu.pbtxt").write_text(text)
    return repository


def runs_and_images(suite: LocalSuite) -> dict[str, tuple[int, int]]:
    """By model: how often it ran, and on how many pictures in all, as Triton's metrics say."""
    with urllib.request.urlopen(suite._inference.metrics_endpoint, timeout=10) as answer:
        lines = answer.read().decode().splitlines()

    def count(metric: str, model: str) -> int:
        found = [line for line in lines if line.startswith(metric + "{") and f'model="{model}"' in line]
        return int(sum(float(line.rpartition(" ")[2]) for line in found))

    return {name: (count("nv_inference_exec_count", name), count("nv_inference_count", name)) for name in MODELS}


def essence(answer: orchestrator_pb2.AnnotateVideoResponse) -> list[tuple[str, float, str]]:
    return [
        (item.label, round(seconds(item.segments[0].start), 3), item.products[0].product.name)
        for item in answer.objects
    ]


async def test_clips_in_work_at_the_same_time_share_batches_and_get_each_its_own_answer(
    samples: Path, tmp_path: Path, batching_models: Path
):
    options = SuiteOptions(
        data_folder=tmp_path / "data",
        log_folder=tmp_path / "logs",
        file_roots=(samples,),
        model_repository=batching_models,
    )
    source = common_pb2.VideoSource(uri=(samples / "film.mp4").as_uri())
    async with LocalSuite(options) as suite, open_channel(suite.endpoints.orchestrator) as channel:
        async with open_channel(suite.endpoints.matcher) as matcher:
            await import_feed(CatalogClient(matcher), samples / "catalog.jsonl", catalog="sample")

        async def clip(start_s: int) -> orchestrator_pb2.AnnotateVideoResponse:
            wanted = orchestrator_pb2.AnnotateOptions(
                catalog=CATALOG, start_time={"seconds": start_s}, end_time={"seconds": start_s + 2}
            )
            return await OrchestratorClient(channel).annotate(source, wanted, timeout_s=100)

        before = runs_and_images(suite)
        together = await asyncio.gather(*map(clip, STARTS_S))
        after = runs_and_images(suite)
        alone = [await clip(start_s) for start_s in STARTS_S]
    for name in MODELS:
        runs, images = (later - earlier for earlier, later in zip(before[name], after[name], strict=True))
        print(f"{name}: {images} pictures in {runs} runs")
        # A clip alone has several frames of its own in flight; one picture a run would be no batching.
        assert images >= 1.5 * runs
    assert [essence(answer) for answer in together] == [essence(answer) for answer in alone]
    assert all(answer.summary.frames_failed == 0 for answer in together)
