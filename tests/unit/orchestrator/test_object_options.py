"""What a caller may ask of the list: only sure objects, and thinned boxes."""

import pytest

from shoppable.orchestrator.convert import read_options
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.errors import InvalidRequestError
from shoppable.runtime.validation import Violations
from shoppable.v1 import orchestrator_pb2


def read(**fields):
    violations = Violations()
    options = read_options(orchestrator_pb2.AnnotateOptions(**fields), OrchestratorSettings(), violations)
    violations.raise_if_any()
    return options


def test_boxes_are_thinned_to_a_hundredth_of_the_frame_and_no_object_is_left_out_by_default():
    options = read()
    assert options.box_tolerance == pytest.approx(0.01)
    assert options.min_object_confidence is None


def test_zero_is_a_wish_and_no_default():
    options = read(box_tolerance=0, min_object_confidence=0, catalog="catalogs/c")
    assert options.box_tolerance == 0
    assert options.min_object_confidence == 0


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidRequestError) as raised:
        read(box_tolerance=0.6, min_object_confidence=1.5)
    assert {item.field for item in raised.value.violations} == {
        "options.box_tolerance",
        "options.min_object_confidence",
        "options.catalog",
    }
