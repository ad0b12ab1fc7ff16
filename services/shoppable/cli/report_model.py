"""What a report shows, read from the answer: plain values, pictures as data: URIs, colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from shoppable.cli.rendering import DECISIONS, NO_MATCH, money, seconds
from shoppable.cli.report_pictures import embed_file, embed_jpeg
from shoppable.v1 import orchestrator_pb2, product_matcher_pb2

# Told apart on light and dark, and on film; more objects get turns of the colour circle.
_COLOURS = (
    "#ff5a5f", "#12b5a6", "#f5a524", "#4c8dff", "#b46bff", "#7ac74f", "#ff7ab6", "#00b4e6", "#e2c044", "#ff8552",
    "#8f8cff", "#3ddc97",
)  # fmt: skip
_GOLDEN_TURN = 0.61803


@dataclass(frozen=True)
class ProductView:
    """A product that a thing may be."""

    title: str
    brand: str
    price: str
    page: str  # http(s) only; empty if there is none
    picture: str  # data: URI; empty if there is none
    picture_link: str  # where a person can see it, if it is not in the report
    decision: str
    confidence: float


@dataclass(frozen=True)
class Thing:
    """An object of the film."""

    number: int
    label: str
    colour: str
    decision: str
    confidence: float | None
    segments: Sequence[tuple[float, float]]
    boxes: Sequence[tuple[float, float, float, float, float]]
    best_s: float
    view: str  # data: URI of the best view
    product: ProductView | None
    runner_up: ProductView | None
    problem: str

    @property
    def title(self) -> str:
        """What to call it: the product as far as we are sure of it, else what it is."""
        if self.product and self.decision == "match":
            return self.product.title
        return f"like {self.product.title}" if self.product and self.decision == "similar" else self.label


@dataclass(frozen=True)
class FilmReport:
    """All that a report shows."""

    title: str
    width: int
    height: int
    duration_s: float
    things: Sequence[Thing]
    summary: orchestrator_pb2.AnnotateSummary


def read_response(response: orchestrator_pb2.AnnotateVideoResponse, *, title: str) -> FilmReport:
    """Read an answer."""
    video = response.summary.video
    things = [_thing(number, thing) for number, thing in enumerate(response.objects)]
    ends = [end for thing in things for _, end in thing.segments]
    duration_s = seconds(video.duration) if video.HasField("duration") else 0.0
    return FilmReport(
        title=title,
        width=video.width or 16,
        height=video.height or 9,
        duration_s=max([duration_s, 0.001] if duration_s else [*ends, 0.001]),
        things=things,
        summary=response.summary,
    )


_NOTHING_LIKE_IT = "Nothing in the catalogue is like it."


def colour(number: int) -> str:
    """Return the colour of the n-th thing."""
    if number < len(_COLOURS):
        return _COLOURS[number]
    hue = (number * _GOLDEN_TURN + 0.55) % 1.0  # begins where the hand-picked ones have just not been
    red, green, blue = colorsys.hls_to_rgb(hue, 0.56 if number % 2 else 0.7, 0.75)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _thing(number: int, thing: orchestrator_pb2.ShoppableObject) -> Thing:
    # The nearest products of a thing that matches none would only look like offers.
    none = thing.decision == NO_MATCH
    products = [] if none else [_product(match) for match in thing.products[:2]]
    return Thing(
        number=number,
        label=thing.label,
        colour=colour(number),
        decision=DECISIONS.get(thing.decision, ""),
        confidence=thing.confidence if thing.HasField("confidence") else None,
        segments=[(seconds(part.start), seconds(part.end)) for part in thing.segments],
        boxes=[
            (seconds(item.time), item.box.left, item.box.top, item.box.right, item.box.bottom) for item in thing.boxes
        ],
        best_s=seconds(thing.best_view.time),
        view=embed_jpeg(thing.best_view.thumbnail.data),
        product=products[0] if products else None,
        runner_up=products[1] if len(products) > 1 else None,
        problem=thing.match_status.message if thing.HasField("match_status") else _NOTHING_LIKE_IT if none else "",
    )


def _product(match: product_matcher_pb2.ProductMatch) -> ProductView:
    product = match.product
    # The picture that was most alike first, then any that is there.
    addresses = [match.evidence.image_uri, *(image.uri for image in product.images)]
    picture = next(filter(None, map(embed_file, addresses)), "")
    return ProductView(
        title=product.title or product.name.rpartition("/")[2],
        brand=product.brand,
        price=money(product.price),
        page=_web(product.uri),
        picture=picture,
        picture_link="" if picture else next(filter(None, map(_web, addresses)), ""),
        decision=DECISIONS.get(match.decision, ""),
        confidence=match.confidence,
    )


def _web(address: str) -> str:
    """Return an address if it is one of the web; javascript: and its like are none."""
    return address if address.lower().startswith(("https://", "http://")) else ""
