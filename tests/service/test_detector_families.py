"""A detector of each family, declared by its manifest alone: small ONNX models, the real Triton, the whole service."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from shoppable.detector.settings import DetectorSettings
from shoppable.v1 import object_detector_pb2 as pb
from support.detecting import detail, detector, raw
from support.detector_families import FAMILIES
from support.onnx_detectors import BOXES, LABELS, SIDE

# Twice as wide as high: half of a letterboxed input is margin.
PICTURE = np.full((20, 40, 3), (51, 102, 204), np.uint8)
SCORES = np.array([0.2, 0.4, 0.8])
BACKENDS = Path(__file__).parents[2] / "deploy" / "triton" / "backends"
# Of each family: where the picture lies (top edge and height of its area in pixels of the input), the first channel of
# the last corner, 0..1 and at least what the models can say, and the objectness by which scores are multiplied.
LETTERBOXED, TOP_LEFT, STRETCHED = (16, 32), (0, 32), (0, 64)
BLACK, GREY = 0.01, 114 / 255
CASES = {
    "end_to_end": (LETTERBOXED, BLACK, 1.0),
    "rt_detr": (STRETCHED, SCORES[0], 1.0),
    "d_fine": (STRETCHED, SCORES[0], 1.0),
    "detr": (LETTERBOXED, BLACK, 1.0),
    "yolo_v8": (LETTERBOXED, GREY, 1.0),
    "yolo_v5": (TOP_LEFT, BLACK, 0.5),
    "yolox": (TOP_LEFT, GREY, 0.5),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of all families."""
    folder = tmp_path_factory.mktemp("families") / "models"
    for family in FAMILIES.values():
        family.write(folder)
    return folder


@pytest.fixture(scope="module")
def families_endpoint(repository: Path) -> Iterator[str]:
    """A real Triton that serves them, in a thread with a loop of its own."""
    from shoppable.local.triton import TritonServer
    from shoppable.local.triton_requirements import TritonRequirementError

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="triton of families", daemon=True)
    thread.start()
    try:
        starting = TritonServer.start(repository=repository, backends=BACKENDS)
        try:
            server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        except TritonRequirementError as error:
            pytest.skip(str(error))
        try:
            yield server.grpc_endpoint
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_each_family_finds_what_is_there_where_it_is(families_endpoint: str, repository: Path) -> None:
    async with detector(families_endpoint, models=(repository,)) as service:
        listed = (await service.stub.ListDetectionModels(pb.ListDetectionModelsRequest())).models
        assert {model.name: (model.ready, model.not_ready_reason) for model in listed} == dict.fromkeys(
            CASES, (True, "")
        )
        answers = {
            name: (await service.detect(raw(PICTURE), models=[name], min_score=0)).results[0].detections
            for name in CASES
        }

    for name, ((top, height), corner, objectness) in CASES.items():
        found = {detection.label: detection for detection in answers[name] if detection.score > 0.001}
        assert list(found) == sorted(found, key=lambda label: -found[label].score), name
        assert set(found) == set(LABELS), name
        scores = [found[label].score for label in LABELS]
        np.testing.assert_allclose(scores, np.array([*SCORES, corner]) * objectness, atol=2e-3, err_msg=name)
        expected = np.clip((BOXES - (0, top, 0, top)) / (SIDE, height, SIDE, height), 0, 1)
        boxes = [(b.left, b.top, b.right, b.bottom) for b in (found[label].box for label in LABELS)]
        np.testing.assert_allclose(boxes, expected, atol=1e-3, err_msg=name)
        assert {detection.category for detection in found.values()} == {"toys"}


async def test_models_of_several_families_are_asked_and_fused_together(
    families_endpoint: str, repository: Path
) -> None:
    names = ["rt_detr", "d_fine"]  # both stretch: their boxes are the same
    async with detector(families_endpoint, models=[repository / name / "shoppable.toml" for name in names]) as service:
        answer = await service.detect(raw(PICTURE), min_score=0.1)

    assert [model.name for model in answer.models] == names
    assert sorted(found.label for found in answer.results[0].detections) == sorted(LABELS)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "rt_detr",
            {"'fp32'": "'uint8'", "'nchw'": "'nhwc'", "'orig_target_sizes'": "'size'"},
            [
                "input.dtype: declared uint8, found FP32",
                "input.order: declared nhwc, found the shape [-1, 3, 64, 64]",
                "input.size_name: declared 'size', Triton has ['images', 'orig_target_sizes']",
                "input.name: Triton wants more inputs, ['orig_target_sizes']",
            ],
        ),
        (
            "rt_detr",
            {"layout = 'detections'": "layout = 'detections'\nboxes_name = 'bboxes'\nlabels_name = 'boxes'"},
            [
                "output.labels_name: 'boxes' must have 1 dimensions and perhaps a batch before, found [-1, 4, 4]",
                "output.boxes_name: declared 'bboxes', Triton has ['boxes', 'labels', 'scores']",
            ],
        ),
        (
            "yolo_v8",
            {'"red", ': "", "order": "width = 640\nheight = 640\norder", 'red = "toys"\n': ""},
            [
                "input.height: declared 640, found 64",
                "input.width: declared 640, found 64",
                "output.name: the layout and the labels want [7, 'any'], found [8, 4]",
            ],
        ),
        ("yolo_v5", {"'yolov5'": "'candidates'\nname = 'output0'"}, ["want ['any', 6], found [4, 9]"]),
        ("yolox", {"'yolox'": "'yolox'\nstrides = [8, 16]"}, ["want [80, 9], found [84, 9]"]),
        ("detr", {"scores = 'softmax'": ""}, ["output.logits_name: the layout and the labels want ['any', 91], found"]),
        ("detr", {"width = 64\nheight = 64\n": ""}, ["input.height: not declared, and free on Triton: declare it"]),
        ("end_to_end", {"[output]": "[input]\nname = 'image'\n[output]"}, ["input.name: declared 'image', Triton has"]),
    ],
)
async def test_manifest_that_is_not_of_the_model_is_told_field_by_field(
    families_endpoint: str, tmp_path: Path, name: str, changes: dict[str, str], said: list[str]
) -> None:
    text = FAMILIES[name].manifest_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    manifest = tmp_path / name / "shoppable.toml"
    manifest.parent.mkdir()
    manifest.write_text(text)

    async with detector(families_endpoint, models=(manifest,)) as service:
        assert await service.health() == "NOT_SERVING"
        (model,) = (await service.stub.ListDetectionModels(pb.ListDetectionModelsRequest())).models
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.detect(raw(PICTURE))

    assert str(manifest) in model.not_ready_reason
    for part in said:
        assert part in model.not_ready_reason
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert detail(raised.value, error_details_pb2.ErrorInfo).metadata["cause"] == "MODEL_MISMATCH"
    assert said[0] in (raised.value.details() or "")


async def test_numbers_that_are_not_of_the_layout_are_told_when_they_are_seen(
    families_endpoint: str, tmp_path: Path
) -> None:
    """The shapes fit and only the answer shows that the class numbers begin elsewhere."""
    manifest = tmp_path / "rt_detr" / "shoppable.toml"
    manifest.parent.mkdir()
    manifest.write_text(FAMILIES["rt_detr"].manifest_text().replace("first_class = 1\n", ""))

    async with detector(families_endpoint, models=(manifest,)) as service:
        (model,) = (await service.stub.ListDetectionModels(pb.ListDetectionModelsRequest())).models

    assert "a class number is 4, and those of the labels end at 3" in model.not_ready_reason


def test_packaged_models_are_named_by_a_word() -> None:
    assert [path.name for path in DetectorSettings(models="packaged, /mine").models] == ["models", "mine"]  # type: ignore[arg-type]
