"""How many frames a plan foretells, and what for how long."""

import pytest
from google.protobuf.duration_pb2 import Duration

from shoppable.orchestrator.domain import DecodeSummary, Options, StageTiming, Summary
from shoppable.orchestrator.estimates import CostEstimates
from shoppable.orchestrator.planning import frames_of
from shoppable.v1 import common_pb2

Sampling = common_pb2.FrameSampling


def video(seconds: int | None, rate: float | None = 25.0) -> common_pb2.VideoInfo:
    info = common_pb2.VideoInfo(average_frame_rate=rate)
    if seconds is not None:
        info.duration.FromSeconds(seconds)
    return info


@pytest.mark.parametrize(
    ("info", "options", "expected"),
    [
        (video(10), Options(Sampling(frames_per_second=5)), (50, 250)),
        (video(10), Options(Sampling(frames_per_second=0.1)), (1, 250)),
        (video(10), Options(Sampling(frames_per_second=0.3)), (3, 250)),
        (video(10), Options(Sampling(frames_per_second=240)), (250, 250)),
        (video(10, None), Options(Sampling(frames_per_second=5)), (50, None)),
        (video(10), Options(Sampling(frames_per_second=5), start_s=2, end_s=4), (10, 50)),
        (video(10), Options(Sampling(frames_per_second=5), start_s=8, end_s=40), (10, 50)),
        (video(10), Options(Sampling(frames_per_second=5), start_s=20), (0, 0)),
        (video(10), Options(Sampling(every_nth_frame=100)), (3, 250)),
        (video(10), Options(Sampling(keyframes_only=common_pb2.KeyframeSampling())), (None, None)),
        (video(10), Options(Sampling(scenes=common_pb2.SceneSampling())), (None, 250)),
        (
            video(10),
            Options(Sampling(timestamps=common_pb2.TimestampSampling(times=[Duration(seconds=n) for n in (1, 9, 11)]))),
            (2, None),
        ),
        (video(None), Options(Sampling(frames_per_second=5)), (None, None)),
    ],
)
def test_frames_of_a_plan(info, options, expected):
    assert frames_of(info, options) == expected


def summary(frames: int, elapsed_s: float, *, dropped: int = 0) -> Summary:
    return Summary(
        video=common_pb2.VideoInfo(),
        frames_sampled=frames,
        frames_failed=0,
        objects=0,
        objects_unmatched=0,
        decoding=DecodeSummary(0, truncated=False, end_s=None),
        detection_models=(),
        embedder=None,
        catalog_revision=None,
        elapsed_s=elapsed_s,
        stages=[StageTiming("detect", elapsed_s / 2, frames, 0)],
        frames_dropped=dropped,
    )


def test_there_is_no_estimate_without_a_video():
    estimates = CostEstimates()
    estimates.add(summary(3, 1.0))  # too short to say anything
    assert (estimates.videos, estimates.whole_s(100), estimates.stages_s(100)) == (0, None, {})


def test_an_estimate_follows_what_videos_cost_late_ones_more():
    estimates = CostEstimates()
    estimates.add(summary(100, 10.0))
    assert estimates.whole_s(50) == pytest.approx(5.0)
    assert estimates.stages_s(50) == {"detect": pytest.approx(2.5)}
    assert estimates.whole_s(None) is None
    estimates.add(summary(200, 40.0, dropped=100))
    assert estimates.whole_s(100) == pytest.approx(0.8 * 10 + 0.2 * 40)
    for _ in range(30):
        estimates.add(summary(100, 40.0))
    assert estimates.whole_s(100) == pytest.approx(40, rel=0.01)
