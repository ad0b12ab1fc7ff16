import numpy as np
import pytest

from shoppable.detector.layouts import LayoutError, check_candidates_shape, read_candidates


def test_candidates_are_read_column_by_column() -> None:
    found = read_candidates(np.array([[1, 2, 3, 4, 0.5, 7], [5, 6, 7, 8, 0.25, 0]], np.float32))

    assert found.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert found.scores.tolist() == [0.5, 0.25]
    assert found.classes.tolist() == [7, 0]


def test_rows_with_no_numbers_are_left_out() -> None:
    found = read_candidates(np.array([[1, 2, 3, 4, np.nan, 7], [5, 6, np.inf, 8, 0.25, 0], [1, 2, 3, 4, 0.5, 1]]))

    assert found.classes.tolist() == [1]


@pytest.mark.parametrize("shape", [(100, 5), (100,), (1, 100, 6), (84, 8400), (-1, 7)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match=r"must be \[K, 6\]"):
        check_candidates_shape(shape)


def test_free_number_of_candidates_is_taken() -> None:
    check_candidates_shape((-1, 6))
