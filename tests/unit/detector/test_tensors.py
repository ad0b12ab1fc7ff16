"""What a model is sent and how its answer is taken apart. Families of whole models: tests/service."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoppable.detector.layouts import LayoutError, layout_of
from shoppable.detector.manifest import InputSpec, ModelSpec
from shoppable.detector.tensors import Wire, agree, to_tensor
from shoppable.runtime.inference import ModelDescription, TensorInfo

PIXELS = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)


def spec(**form: object) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "m",
            "labels": ["a", "b"],
            "min_score": 0.3,
            "input": form,
            "output": {"layout": "detections"},
        }
    )


def description(
    *, images: tuple[int, ...], labels: tuple[int, ...], boxes: tuple[int, ...], scores: tuple[int, ...]
) -> ModelDescription:
    outputs = {"labels": TensorInfo("INT64", labels), "boxes": TensorInfo("FP32", boxes)}
    return ModelDescription(
        "1", {"images": TensorInfo("UINT8", images)}, outputs | {"scores": TensorInfo("FP32", scores)}
    )


def wire_of(model: ModelSpec, found: ModelDescription) -> Wire:
    return agree(model, layout_of(model), found)


def test_bytes_in_the_picture_s_own_order_are_sent_as_they_are() -> None:
    np.testing.assert_array_equal(to_tensor(PIXELS, InputSpec()), PIXELS)
    assert np.shares_memory(to_tensor(PIXELS, InputSpec()), PIXELS)


@settings(deadline=None)
@given(
    st.sampled_from(["rgb", "bgr"]),
    st.sampled_from(["nhwc", "nchw"]),
    st.sampled_from(["fp16", "fp32"]),
    st.sampled_from([1.0, 255.0]),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.tuples(*[st.floats(0.1, 2)] * 3),
)
def test_numbers_are_normalised_channel_by_channel_in_the_declared_order(
    color: str,
    order: str,
    dtype: str,
    divide_by: float,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    form = InputSpec.model_validate(
        {"color": color, "order": order, "dtype": dtype, "divide_by": divide_by, "mean": mean, "std": std}
    )
    made = to_tensor(PIXELS, form)

    assert made.flags.c_contiguous
    assert made.dtype == {"fp16": np.float16, "fp32": np.float32}[dtype]
    assert made.shape == ((1, 2, 4, 3) if order == "nhwc" else (1, 3, 2, 4))
    for channel in range(3):
        source = channel if color == "rgb" else 2 - channel
        expected = (PIXELS[0, 1, 2, source] / divide_by - mean[channel]) / std[channel]
        value = made[0, 1, 2, channel] if order == "nhwc" else made[0, channel, 1, 2]
        assert value == pytest.approx(expected, rel=2e-3 if dtype == "fp16" else 1e-5, abs=2e-3)


@pytest.mark.parametrize(
    ("images", "labels", "boxes", "scores", "sent"),
    [
        ((-1, 8, 16, 3), (-1, 5), (-1, 5, 4), (-1, 5), (1, 8, 16, 3)),  # Triton fills the batch
        ((1, 8, 16, 3), (1, 5), (1, 5, 4), (1, 5), (1, 8, 16, 3)),  # a batch of 1
        ((8, 16, 3), (5,), (5, 4), (5,), (8, 16, 3)),  # none
        ((3, 8, 16, 3), (3, 5), (3, 5, 4), (3, 5), (3, 8, 16, 3)),  # always 3
        ((1, 8, 16, 3), (5,), (1, 5, 4), (-1,), (1, 8, 16, 3)),  # not all of one kind
        ((-1, -1, -1, -1), (-1, -1), (-1, -1, -1), (-1, -1), (1, 8, 16, 3)),  # all free
    ],
)
def test_batch_dimensions_are_filled_and_taken_away_as_the_model_has_them(
    images: tuple[int, ...],
    labels: tuple[int, ...],
    boxes: tuple[int, ...],
    scores: tuple[int, ...],
    sent: tuple[int, ...],
) -> None:
    wire = wire_of(spec(width=16, height=8), description(images=images, labels=labels, boxes=boxes, scores=scores))
    picture = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(1, 8, 16, 3)

    packed = wire.pack(picture)["images"]

    assert packed.shape == sent
    np.testing.assert_array_equal(packed.reshape(-1, 8, 16, 3)[0], picture[0])

    rows = 1 if images[0] == -1 else images[0]
    outputs = {
        "labels": np.zeros((rows, 5) if len(labels) == 2 else (5,)),
        "boxes": np.zeros((rows, 5, 4) if len(boxes) == 3 else (5, 4)),
        "scores": np.zeros((rows, 5) if len(scores) == 2 else (5,)),
    }
    single = wire.unpack(outputs)
    assert {name: array.shape for name, array in single.items()} == {"labels": (5,), "boxes": (5, 4), "scores": (5,)}


def test_answer_without_a_row_is_a_mismatch() -> None:
    found = description(images=(-1, 8, 16, 3), labels=(-1, 5), boxes=(-1, 5, 4), scores=(-1, 5))

    with pytest.raises(LayoutError, match="no row for the picture"):
        wire_of(spec(), found).unpack(
            {"labels": np.zeros((0, 5)), "boxes": np.zeros((0, 5, 4)), "scores": np.zeros((0, 5))}
        )


def test_batch_that_no_model_has_is_a_mismatch() -> None:
    """A picture of 640 rows must not be taken for a batch of 640."""
    found = description(images=(640, 640, 3, 1), labels=(-1, 5), boxes=(-1, 5, 4), scores=(-1, 5))

    with pytest.raises(LayoutError, match=r"input\.name: 'images' must have 3 dimensions and perhaps a batch before"):
        wire_of(spec(), found)
