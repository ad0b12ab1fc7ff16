import io

import pytest
from google.type import money_pb2
from rich.console import Console

from shoppable.cli import rendering
from shoppable.cli.console import plain
from shoppable.cli.feeds import BrokenRow, Problem
from unit.cli.sample_answer import sample_answer


def shown(what: object) -> str:
    file = io.StringIO()
    Console(file=file, width=160, markup=False, highlight=False, emoji=False).print(what)
    return file.getvalue()


def test_table_of_objects_tells_what_was_found_and_when() -> None:
    text = shown(rendering.objects_table(sample_answer().objects))
    line = next(line for line in text.splitlines() if "cup" in line)
    for word in ("0:00.0–0:01.8, 0:05.3–0:07.0", "Lagoon mug, teal", "€16.50"):
        assert word in line


def test_markup_and_escape_sequences_are_shown_and_not_obeyed() -> None:
    answer = sample_answer()
    answer.objects[0].label = "[red]x[/red]\x1b[2J\x07"
    text = shown(rendering.objects_table(answer.objects))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_failed_match_is_told() -> None:
    answer = sample_answer()
    del answer.objects[0].products[:]
    answer.objects[0].match_status.message = "the matcher was away"
    assert "the matcher was away" in shown(rendering.objects_table(answer.objects))


def test_every_problem_of_a_row_has_its_line() -> None:
    row = BrokenRow(7, "mug", (Problem("price", "is bad"), Problem("images", "no such file")))
    lines = [line.split() for line in shown(rendering.broken_rows_table([row])).splitlines() if "mug" in line]
    assert lines == [["7", "mug", "price", "is", "bad"], ["7", "mug", "images", "no", "such", "file"]]


@pytest.mark.parametrize(
    ("value_s", "words"), [(0, "0:00.0"), (3.24, "0:03.2"), (59.96, "1:00.0"), (3725.5, "1:02:05.5")]
)
def test_moments_are_written_as_people_do(value_s: float, words: str) -> None:
    assert rendering.clock(value_s) == words


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (money_pb2.Money(currency_code="EUR", units=16, nanos=500_000_000), "€16.50"),
        (money_pb2.Money(currency_code="SEK", units=1234), "1,234.00 SEK"),
        (money_pb2.Money(currency_code="JPY", units=1500), "¥1,500"),
        (money_pb2.Money(), ""),
    ],
)
def test_prices_are_written_with_their_currency(price: money_pb2.Money, words: str) -> None:
    assert rendering.money(price) == words


def test_plain_keeps_texts_and_drops_control() -> None:
    assert plain("Ärmel 毛 €") == "Ärmel 毛 €"
    assert plain("a\x1bb\u202ec\td") == "a\ufffdb\ufffdc d"
