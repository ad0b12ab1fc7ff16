import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoppable.cli.feeds import BrokenRow, FeedError, FeedProduct, FeedRow, read_feed
from shoppable.v1 import product_catalog_pb2 as pb

MINIMAL = {"product_id": "mug", "title": "Mug", "images": ["mug.jpg"]}


def read(tmp_path: Path, content: str | bytes, name: str = "feed.jsonl") -> list[FeedRow]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_feed(path))


def only_problems(rows: list[FeedRow]) -> list[tuple[int, str, str]]:
    return [(row.line, one.field, one.reason) for row in rows if isinstance(row, BrokenRow) for one in row.problems]


def test_sample_catalogue_is_read_whole(samples: Path) -> None:
    rows = list(read_feed(samples / "catalog.jsonl"))
    assert len(rows) == 33
    assert all(isinstance(row, FeedProduct) for row in rows)
    first = rows[0]
    assert isinstance(first, FeedProduct)
    assert (first.line, first.product_id, first.product.title) == (1, "mug-teal", "Lagoon mug, teal")
    assert (first.product.price.currency_code, first.product.price.units, first.product.price.nanos) == (
        "EUR",
        16,
        500_000_000,
    )
    assert first.product.uri == "https://shop.example/p/mug-teal"
    assert dict(first.product.attributes) == {"color": "teal", "material": "stoneware"}
    assert first.images == ("catalog/mug-teal-1.jpg", "catalog/mug-teal-2.jpg")


def test_csv_says_the_same_as_json(tmp_path: Path) -> None:
    row = MINIMAL | {
        "title": 'Mug, "blue"\nand white',
        "brand": "Clay",
        "price": {"currency_code": "EUR", "units": 16, "nanos": 500_000_000},
        "availability": "in_stock",
        "attributes": {"color": "blue", "size": "S"},
        "images": ["a.jpg", "https://shop.example/b.jpg"],
    }
    from_json = read(tmp_path, json.dumps(row))
    from_csv = read(
        tmp_path,
        "product_id,title,brand,price,currency,availability,images,attributes,attr.color\n"
        'mug,"Mug, ""blue""\nand white",Clay,16.50,EUR,In stock,'
        'a.jpg|https://shop.example/b.jpg,"{""size"": ""S""}",blue\n',
        "feed.csv",
    )
    assert isinstance(from_json[0], FeedProduct)
    assert isinstance(from_csv[0], FeedProduct)
    assert from_csv[0].product == from_json[0].product
    assert from_csv[0].images == from_json[0].images
    assert from_csv[0].product.availability == pb.AVAILABILITY_IN_STOCK


def test_all_that_is_wrong_with_a_row_is_told_at_once(tmp_path: Path) -> None:
    row = {"title": 5, "price": "cheap", "availability": "maybe", "images": [], "colour": "red", "attributes": {"a": 1}}
    found = {field: reason for _, field, reason in only_problems(read(tmp_path, json.dumps(row)))}
    assert set(found) == {"product_id", "title", "price", "availability", "images", "colour", "attributes"}
    assert found["product_id"] == "is missing"
    assert found["colour"].startswith("is unknown")


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'"a"',
        b"\xff\xfe",
        b"{" * 100_000,
        b'{"product_id": 1e999}',
        b"1" * 10_000,
        b"x" * (1 << 21),
    ],
    ids=["broken", "list", "null", "text", "no UTF-8", "deep", "infinite", "huge number", "long"],
)
def test_broken_line_is_told_with_its_number_and_the_next_is_read(tmp_path: Path, line: bytes) -> None:
    rows = read(tmp_path, b"\n" + line + b"\n" + json.dumps(MINIMAL).encode())
    assert [row.line for row in rows] == [2, 3]
    assert isinstance(rows[0], BrokenRow)
    assert isinstance(rows[1], FeedProduct)


def test_second_row_of_an_id_is_told_with_the_first_s_line(tmp_path: Path) -> None:
    rows = read(tmp_path, f"{json.dumps(MINIMAL)}\n{json.dumps(MINIMAL | {'title': 'Other'})}\n")
    assert only_problems(rows) == [(2, "product_id", "repeats line 1")]


def test_csv_row_that_is_too_short_or_no_utf8_spoils_no_other(tmp_path: Path) -> None:
    content = b"product_id,title,images\na,A,a.jpg\nb,B\nc,\xff,c.jpg\nd,D,d.jpg\n"
    rows = read(tmp_path, content, "feed.csv")
    assert [row.line for row in rows if isinstance(row, FeedProduct)] == [2, 5]
    assert only_problems(rows) == [
        (3, "", "has 2 values where the header has 3"),
        (4, "title", "is not UTF-8"),
    ]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "empty"),
        ("product_id,title\n", "lacks the column 'images'"),
        ("product_id,title,images,colour\n", "unknown column: 'colour'"),
        ("product_id,title,images,title\n", "'title' twice"),
    ],
)
def test_header_that_cannot_be_used_is_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        read(tmp_path, header, "feed.csv")


@pytest.mark.parametrize(
    ("price", "expected"),
    [("16.50 EUR", ("EUR", 16, 500_000_000)), ("0.000000001usd", ("USD", 0, 1)), ("7 JPY", ("JPY", 7, 0))],
)
def test_price_is_exact(tmp_path: Path, price: str, expected: tuple[str, int, int]) -> None:
    rows = read(tmp_path, json.dumps(MINIMAL | {"price": price}))
    assert isinstance(rows[0], FeedProduct)
    money = rows[0].product.price
    assert (money.currency_code, money.units, money.nanos) == expected


@pytest.mark.parametrize(
    "price", [1, "1,50 EUR", "NaN EUR", "-1 EUR", {"units": 1.5}, {"units": True}, {"units": 2**63}, {"euros": 1}, None]
)
def test_price_that_is_none_is_told(tmp_path: Path, price: object) -> None:
    rows = read(tmp_path, json.dumps(MINIMAL | {"price": price}))
    assert [field for _, field, _ in only_problems(rows)] == ["price"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
any_row = st.dictionaries(
    st.sampled_from(
        [
            "product_id",
            "title",
            "description",
            "brand",
            "category",
            "price",
            "url",
            "availability",
            "images",
            "attributes",
        ]
    )
    | st.text(),
    json_values,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(any_row | st.just(MINIMAL), max_size=4))
def test_every_json_line_is_answered_for_by_one_row(tmp_path: Path, rows: list[object]) -> None:
    read_rows = read(tmp_path, "\n".join(json.dumps(row) for row in rows))
    assert [row.line for row in read_rows] == list(range(1, len(rows) + 1))
    for row in read_rows:
        if isinstance(row, FeedProduct):
            row.product.SerializeToString()
        else:
            assert row.problems


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300), name=st.sampled_from(["feed.jsonl", "feed.csv", "feed"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    try:
        rows = read(tmp_path, content, name)
    except FeedError:
        return
    assert [row.line for row in rows] == sorted({row.line for row in rows})


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1).filter(
    lambda value: value == value.strip()
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(title=texts, brand=texts)
def test_csv_keeps_any_text(tmp_path: Path, title: str, brand: str) -> None:
    cells = ",".join('"' + text.replace('"', '""') + '"' for text in ("id", title, brand, "a.jpg"))
    rows = read(tmp_path, f"product_id,title,brand,images\n{cells}\n", "feed.csv")
    assert isinstance(rows[0], FeedProduct)
    assert (rows[0].product.title, rows[0].product.brand) == (title, brand)
