"""Which samplings an annotation takes; the rest is refused before the decoder is asked."""

import pytest
from google.protobuf.duration_pb2 import Duration

from shoppable.orchestrator.convert import read_options
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.errors import InvalidRequestError
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, orchestrator_pb2


def read(sampling: common_pb2.FrameSampling) -> common_pb2.FrameSampling:
    violations = Violations()
    options = orchestrator_pb2.AnnotateOptions(sampling=sampling)
    checked = read_options(options, OrchestratorSettings(), violations)
    violations.raise_if_any()
    return checked.sampling


def moments(count: int) -> common_pb2.FrameSampling:
    times = [Duration(seconds=second) for second in range(count)]
    return common_pb2.FrameSampling(timestamps=common_pb2.TimestampSampling(times=times))


def scenes(rate: float | None) -> common_pb2.FrameSampling:
    return common_pb2.FrameSampling(scenes=common_pb2.SceneSampling(frames_per_second=rate))


@pytest.mark.parametrize("sampling", [moments(1), moments(10_000), scenes(None), scenes(0.01), scenes(240)])
def test_moments_and_scenes_are_passed_on_as_they_are(sampling):
    assert read(sampling) == sampling


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (moments(0), "options.sampling.timestamps.times"),
        (moments(10_001), "options.sampling.timestamps.times"),
        (scenes(0), "options.sampling.scenes.frames_per_second"),
        (scenes(float("nan")), "options.sampling.scenes.frames_per_second"),
    ],
)
def test_bad_moments_and_scenes_are_refused(sampling, field):
    with pytest.raises(InvalidRequestError) as caught:
        read(sampling)
    assert [violation.field for violation in caught.value.violations] == [field]
