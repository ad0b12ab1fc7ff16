"""Where in a file a field is, for whoever has to correct it."""

import tomllib

import pytest

from shoppable.runtime.toml import line_of, parse

TEXT = """# a comment = 3
port = 1

[labels.one]
cup = "drinkware"
"hair drier" = false
[ labels . 'two' ]
plates = { name = "Plates", parent = "?" }
input.width = 640
[[shops]]
name = "a"
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("port", 2),
        ("labels.one", 4),
        ("labels.one.cup", 5),
        ("labels.one.hair drier", 6),
        ("labels.one.spoon", 4),  # is missing: its table
        ("labels.two.plates.parent", 8),  # in an inline table: its line
        ("labels.two.input.width", 9),
        ("shops.name", 11),
        ("ports", None),
    ],
)
def test_a_field_is_found_or_what_holds_it(field: str, line: int | None):
    assert line_of(TEXT, field) == line


def test_what_holds_a_field_is_not_exactly_it():
    assert line_of(TEXT, "labels.one.spoon", exactly=True) is None
    assert line_of(TEXT, "labels.one.cup", exactly=True) == 5


def test_a_file_that_nests_without_end_is_no_toml():
    with pytest.raises(tomllib.TOMLDecodeError, match="Nested too deeply"):
        parse("a = " + "[" * 100_000)
