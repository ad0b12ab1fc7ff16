"""Feeds as shops have them: other formats and other names for the same product."""

import gzip
import itertools
import json
from decimal import Decimal
from pathlib import Path

import pytest

from shoppable.cli.feed_names import FieldNames
from shoppable.cli.feeds import BrokenRow, FeedError, FeedProduct, read_feed
from shoppable.v1 import product_catalog_pb2 as pb

GOOGLE = {
    "id": "mug-1",
    "title": "Mug",
    "description": "Holds coffee",
    "link": "https://shop.example/mug",
    "image_link": "https://shop.example/1.jpg",
    "additional_image_link": "https://shop.example/2.jpg,https://shop.example/3.jpg",
    "price": "12.90 EUR",
    "availability": "in stock",
    "brand": "Halden",
    "google_product_category": "Home & Garden > Mugs",
    "gtin": "4006381333931",
    "shipping": "DE::Standard:4.95 EUR",
}


def only(path: Path, names: FieldNames | None = None) -> FeedProduct:
    (row,) = read_feed(path, names)
    assert isinstance(row, FeedProduct), row
    return row


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def check_google(row: FeedProduct) -> None:
    product = row.product
    assert row.product_id == "mug-1"
    assert (product.title, product.description, product.brand) == ("Mug", "Holds coffee", "Halden")
    assert (product.uri, product.category) == ("https://shop.example/mug", "Home & Garden > Mugs")
    assert (product.price.currency_code, product.price.units, product.price.nanos) == ("EUR", 12, 900_000_000)
    assert product.availability == pb.AVAILABILITY_IN_STOCK
    assert dict(product.attributes) == {"gtin": "4006381333931"}
    assert row.images == tuple(f"https://shop.example/{number}.jpg" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("kind", "compressed"),
    [*itertools.product(["jsonl", "csv", "tsv", "rss", "atom"], [False, True]), ("parquet", False)],
)
def test_a_merchant_feed_says_the_same_in_every_format(tmp_path: Path, kind: str, compressed: bool) -> None:
    if kind == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        path = tmp_path / "feed.parquet"
        parquet.write_table(pa.Table.from_pylist([GOOGLE | {"mpn": None}]), path)
    else:
        content = {"jsonl": _jsonl, "csv": _csv, "tsv": _tsv, "rss": _rss, "atom": _atom}[kind]().encode()
        suffix = {"rss": "xml", "atom": "xml"}.get(kind, kind)
        path = write(
            tmp_path / f"feed.{suffix}{'.gz' if compressed else ''}", gzip.compress(content) if compressed else content
        )
    names = FieldNames()
    check_google(only(path, names))
    assert names.ignored == {"shipping"}


def _jsonl() -> str:
    return json.dumps(GOOGLE)


def _csv() -> str:
    cells = ['"' + value.replace('"', '""') + '"' for value in GOOGLE.values()]
    return ",".join(GOOGLE) + "\n" + ",".join(cells) + "\n"


def _tsv() -> str:
    return "\t".join(name.replace("_", " ") for name in GOOGLE) + "\n" + "\t".join(GOOGLE.values()) + "\n"


def _fields(*leave_out: str) -> str:
    fields = {name: value for name, value in GOOGLE.items() if name not in {"additional_image_link", *leave_out}}
    escaped = {name: value.replace("&", "&amp;").replace(">", "&gt;") for name, value in fields.items()}
    more = "".join(f"<g:additional_image_link>https://shop.example/{n}.jpg</g:additional_image_link>" for n in (2, 3))
    return "".join(f"<g:{name}>{value}</g:{name}>" for name, value in escaped.items()) + more


def _rss() -> str:
    return (
        '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>'
        f"<item>{_fields()}</item></channel></rss>"
    )


def _atom() -> str:
    return (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title><entry>'
        f'<link href="https://shop.example/mug"/>{_fields("link")}</entry></feed>'
    )


def test_meta_and_openai_names_are_known(tmp_path: Path) -> None:
    meta = {
        "id": 7, "title": "Mug", "image[1].url": "b.jpg", "image[0].url": "a.jpg", "price": "9.99 USD",
        "fb_product_category": "home", "availability": "available for order", "condition": "new",
    }  # fmt: skip
    openai = {
        "item_id": "8", "title": "Mug", "description": {"plain": "Nice"}, "url": "https://shop.example/8",
        "image_url": "a.jpg", "additional_image_urls": ["b.jpg"], "price": "1,299.00 USD", "sale_price": "999.50 USD",
        "availability": "pre_order", "product_category": "home", "seller_name": "Nook", "is_eligible_search": True,
    }  # fmt: skip
    path = write(tmp_path / "feed.jsonl", f"{json.dumps(meta)}\n{json.dumps(openai)}\n")
    names = FieldNames()
    first, second = read_feed(path, names)
    assert isinstance(first, FeedProduct)
    assert isinstance(second, FeedProduct)
    assert (first.product_id, first.images, first.product.category) == ("7", ("a.jpg", "b.jpg"), "home")
    assert first.product.availability == pb.AVAILABILITY_BACKORDER
    assert (second.product_id, second.images, second.product.description) == ("8", ("a.jpg", "b.jpg"), "Nice")
    assert (second.product.price.units, second.product.price.nanos) == (999, 500_000_000)
    assert dict(second.product.attributes) == {"seller": "Nook", "regular_price": "1,299.00 USD"}
    assert second.product.availability == pb.AVAILABILITY_PREORDER
    assert names.ignored == {"is_eligible_search"}


def test_a_sale_that_is_limited_in_time_is_not_the_price(tmp_path: Path) -> None:
    row = GOOGLE | {"sale_price": "1 EUR", "sale_price_effective_date": "2020-01-01T00:00+0000/2020-01-02T00:00+0000"}
    assert only(write(tmp_path / "feed.jsonl", json.dumps(row))).product.price.units == 12


def test_a_mapping_names_the_fields_of_any_feed(tmp_path: Path) -> None:
    mapping = write(
        tmp_path / "map.toml",
        '[fields]\nsku = "product_id"\nname = "title"\nphoto = "images"\nColour = "attr.color"\nnote = ""\n'
        'cost = "price"\ncur = "currency"\n',
    )
    feed = write(
        tmp_path / "feed.csv",
        "sku,name,photo,Colour,note,cost,cur,brand,strange\n1,Mug,a.jpg,teal,private,16.10,EUR,Halden,x\n",
    )
    names = FieldNames.from_file(mapping)
    row = only(feed, names)
    assert (row.product_id, row.product.title, row.images, row.product.brand) == ("1", "Mug", ("a.jpg",), "Halden")
    assert (row.product.price.units, row.product.price.nanos) == (16, 100_000_000)
    assert dict(row.product.attributes) == {"color": "teal"}
    assert names.ignored == {"strange"}


@pytest.mark.parametrize("content", ["[fields", "", "[fields]\na = 1", '[fields]\nsku = "prodct_id"'])
def test_a_mapping_that_cannot_be_used_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FeedError, match=r"map\.toml"):
        FieldNames.from_file(write(tmp_path / "map.toml", content))


def test_prices_of_numbers_are_exact(tmp_path: Path) -> None:
    rows = [{"id": str(number), "title": "A", "image_link": "a.jpg", "currency": "EUR"} for number in range(2)]
    text = json.dumps(rows[0])[:-1] + ', "price": 0.07}\n' + json.dumps(rows[1])[:-1] + ', "price": 1e2}\n'
    prices = [row.product.price for row in read_feed(write(tmp_path / "f.jsonl", text)) if isinstance(row, FeedProduct)]
    assert [(price.units, price.nanos) for price in prices] == [(0, 70_000_000), (100, 0)]
    import pyarrow as pa
    from pyarrow import parquet

    table = [rows[0] | {"price": 0.07, "sale_price": Decimal("0.05")}]
    parquet.write_table(pa.Table.from_pylist(table), tmp_path / "f.parquet")
    assert only(tmp_path / "f.parquet").product.price.nanos == 50_000_000


def test_rows_of_a_shop_feed_tell_what_they_lack(tmp_path: Path) -> None:
    (row,) = read_feed(write(tmp_path / "feed.jsonl", json.dumps({"id": "1", "price": "1,299 USD"})))
    assert isinstance(row, BrokenRow)
    assert {(one.field, one.reason.split(",")[0]) for one in row.problems} == {
        ("title", "is missing"),
        ("images", "is missing"),
        ("price", "must be an amount and a currency"),
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><rss><item/></rss>', "DTD"),
        ("<rss><item>", "not XML"),
        ("<rss><item><title>" + "x" * (1 << 21) + "</title></item></rss>", "longer"),
        ("<a>" * 40, "nested"),
    ],
)
def test_xml_that_is_hostile_is_refused(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        list(read_feed(write(tmp_path / "feed.xml", content)))


def test_broken_binary_feeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="Parquet"):
        list(read_feed(write(tmp_path / "feed.parquet", b"PAR1 and nothing else")))
    packed = gzip.compress(_jsonl().encode())
    with pytest.raises(FeedError, match="gzip"):
        list(read_feed(write(tmp_path / "feed.jsonl.gz", packed[:-9])))


def test_xml_rows_are_told_with_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "feed.xml", "<rss>\n<item>\n<id>1</id></item>\n<item><id>1</id></item></rss>")
    assert [row.line for row in read_feed(path)] == [2, 4]
