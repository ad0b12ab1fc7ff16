"""Page tokens."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.page_tokens import page_token, read_page_token


@given(st.text(), st.text(min_size=1))
def test_a_token_leads_back_to_its_id(scope: str, last_id: str) -> None:
    assert read_page_token(scope, page_token(scope, last_id)) == last_id


def test_no_token_is_the_first_page() -> None:
    assert read_page_token("list", "") == ""


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_token_is_refused(place: int, change: int) -> None:
    data = bytearray(base64.urlsafe_b64decode(page_token("list", "mug-teal")))
    data[place % len(data)] ^= change
    assert read_page_token("list", base64.urlsafe_b64encode(bytes(data)).decode()) is None


@given(st.text(max_size=60))
def test_any_text_is_refused_without_an_exception(text: str) -> None:
    assert read_page_token("list", text) in (None, "")


def test_a_token_of_another_list_or_filter_is_refused() -> None:
    one, other = ProductFilter(brands=("a",)), ProductFilter(brands=("b",))
    assert read_page_token(other.canonical(), page_token(one.canonical(), "x")) is None
    same = ProductFilter(brands=("a", "a"))
    assert read_page_token(same.canonical(), page_token(one.canonical(), "x")) == "x"
