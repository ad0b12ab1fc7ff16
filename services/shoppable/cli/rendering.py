"""Tables and words for people: objects, products, catalogues, broken rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from shoppable.cli.console import plain

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.type.money_pb2 import Money

    from shoppable.cli.feeds import BrokenRow
    from shoppable.v1 import orchestrator_pb2, product_catalog_pb2, product_matcher_pb2

# product_matcher.proto's MatchDecision; written here as words, so that nothing heavy is imported for them.
NO_MATCH = 3
DECISIONS = {0: "", 1: "match", 2: "similar", NO_MATCH: "no match"}
_DECISION_STYLES = {1: "green", 2: "yellow", 3: "dim"}
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_WHOLE_CURRENCIES = frozenset({"JPY", "KRW", "VND", "CLP", "ISK"})


def seconds(duration: Duration) -> float:
    """Return a protobuf duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def clock(value_s: float) -> str:
    """Return a moment as people write it: 0:03.2, 1:02:03.4."""
    tenths = round(value_s * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def money(price: Money) -> str:
    """Return a price: €16.50, or 16.50 SEK where no symbol is plain enough; empty if there is none."""
    if not price.currency_code:
        return ""
    nanos = price.units * 10**9 + price.nanos
    places = 0 if price.currency_code in _WHOLE_CURRENCIES else 2
    amount = f"{nanos / 1e9:,.{places}f}"
    symbol = _SYMBOLS.get(price.currency_code)
    return f"{symbol}{amount}" if symbol else f"{amount} {price.currency_code}"


def segments(thing: orchestrator_pb2.ShoppableObject) -> str:
    """Return when an object is in the picture."""
    return ", ".join(f"{clock(seconds(part.start))}–{clock(seconds(part.end))}" for part in thing.segments)


def decision(number: int) -> Text:
    """Return what can be said of a match, in words and colour."""
    return Text(DECISIONS.get(number, ""), style=_DECISION_STYLES.get(number, ""))


def objects_table(objects: Iterable[orchestrator_pb2.ShoppableObject]) -> Table:
    """Return the objects of a video with the product that each may be."""
    table = _table("best view", "object", "in the picture", "product", "price", "decision", "confidence")
    table.columns[4].justify = table.columns[6].justify = "right"
    for thing in objects:
        # The nearest product of one that matches none would only look like an offer.
        matches = thing.products if thing.decision != NO_MATCH else ()
        best = matches[0].product if matches else None
        if best is not None:
            product = Text(plain(best.title), style="" if thing.decision == 1 else "dim")
        else:
            product = Text(plain(thing.match_status.message) if thing.HasField("match_status") else "—", style="dim")
        table.add_row(
            clock(seconds(thing.best_view.time)),
            plain(thing.label),
            segments(thing),
            product,
            money(best.price) if best is not None else "",
            decision(thing.decision),
            f"{thing.confidence:.2f}" if thing.HasField("confidence") else "",
        )
    return table


def matches_table(products: Iterable[product_matcher_pb2.ProductMatch]) -> Table:
    """Return the products that a picture may show."""
    table = _table("product", "id", "price", "decision", "confidence", "similarity")
    for match in products:
        product = match.product
        table.add_row(
            plain(product.title),
            plain(product.name.rpartition("/")[2]),
            money(product.price),
            decision(match.decision),
            f"{match.confidence:.2f}",
            f"{match.similarity:.3f}",
        )
    return table


def search_table(found: Iterable[product_matcher_pb2.SearchHit]) -> Table:
    """Return the products that a search has found, and by what."""
    table = _table("product", "id", "price", "words", "similarity")
    for hit in found:
        product = hit.product
        table.add_row(
            plain(product.title),
            plain(product.name.rpartition("/")[2]),
            money(product.price),
            f"{hit.text_score:.2f}" if hit.HasField("text_score") else "",
            f"{hit.similarity:.3f}" if hit.HasField("similarity") else "",
        )
    return table


def catalogs_table(catalogs: Iterable[product_catalog_pb2.Catalog]) -> Table:
    """Return catalogues with their sizes."""
    table = _table("catalogue", "products", "pictures", "revision", "embedder", "changed")
    for catalog in catalogs:
        changed = catalog.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M") if catalog.HasField("update_time") else ""
        table.add_row(
            plain(catalog.name.removeprefix("catalogs/")),
            str(catalog.product_count),
            str(catalog.image_count),
            str(catalog.revision),
            plain(catalog.embedder.name),
            changed,
        )
    return table


def products_table(products: Iterable[product_catalog_pb2.Product]) -> Table:
    """Return the products of a catalogue."""
    table = _table("id", "title", "brand", "category", "price", "pictures")
    for product in products:
        table.add_row(
            plain(product.name.rpartition("/")[2]),
            plain(product.title),
            plain(product.brand),
            plain(product.category),
            money(product.price),
            str(len(product.images)),
        )
    return table


def duplicates_table(pairs: Iterable[product_catalog_pb2.FindDuplicatesResponse]) -> Table:
    """Return pictures that are nearly the same, and whose they are."""
    table = _table("product", "brand", "picture", "product", "brand", "picture", "similarity")
    table.columns[6].justify = "right"
    for pair in pairs:
        cells = []
        for image in (pair.first, pair.second):
            product_id = image.product.name.rpartition("/")[2]
            cells += [plain(product_id), plain(image.product.brand), plain(image.image_id)]
        table.add_row(*cells, f"{pair.similarity:.3f}")
    return table


def broken_rows_table(rows: Sequence[BrokenRow]) -> Table:
    """Return what is wrong with the rows of a feed, one problem a line."""
    table = _table("line", "product", "field", "reason")
    table.columns[0].justify = "right"
    for row in rows:
        for problem in row.problems:
            table.add_row(str(row.line), plain(row.product_id), plain(problem.field), plain(problem.reason))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def product_card(product: product_catalog_pb2.Product) -> Table:
    """Return all that is stored of a product."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    facts = {
        "name": product.name,
        "title": product.title,
        "description": product.description,
        "brand": product.brand,
        "category": product.category,
        "price": money(product.price),
        "page": product.uri,
        **{f"attr.{key}": value for key, value in sorted(product.attributes.items())},
        **{f"picture {image.image_id}": image.uri for image in product.images},
        "revision": str(product.revision),
    }
    for name, value in facts.items():
        if value:
            table.add_row(plain(name), plain(value))
    return table
