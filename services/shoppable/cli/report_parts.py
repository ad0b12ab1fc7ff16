"""The pieces of the report's page. Every text goes through `escape` or `script_data`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from shoppable.cli.rendering import clock, seconds
from shoppable.cli.report_model import FilmReport, ProductView, Thing

__all__ = ["cards", "clock", "facts", "failures", "making", "script_data", "table_rows", "timeline"]
_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_TICKS_AT_MOST = 10


def script_data(report: FilmReport) -> str:
    """Return what the script needs, as JSON that cannot end its element."""
    content = {
        "duration": round(report.duration_s, 3),
        "frameRate": report.summary.video.average_frame_rate or 25,
        "things": [
            {
                "title": thing.title,
                "price": thing.product.price if thing.product and thing.decision == "match" else "",
                "decision": thing.decision,
                "colour": thing.colour,
                "segments": [[round(start, 3), round(end, 3)] for start, end in thing.segments],
                "boxes": [[round(value, 4) for value in box] for box in thing.boxes],
            }
            for thing in report.things
        ],
    }
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def facts(report: FilmReport) -> str:
    """Return the line of facts at the top."""
    video, summary = report.summary.video, report.summary
    matched = sum(1 for thing in report.things if thing.decision == "match")
    items = [clock(report.duration_s), f"{video.width}×{video.height}" if video.width else "", video.codec]
    items += [f"{summary.frames_sampled} frames looked at" if summary.frames_sampled else ""]
    items += [f"{matched} matched" if any(thing.decision for thing in report.things) else ""]
    if summary.HasField("elapsed"):
        items.append(f"done in {seconds(summary.elapsed):.1f} s")
    return "".join(f"<li>{escape(item)}</li>" for item in items if item)


def timeline(report: FilmReport) -> str:
    """Return the ruler, and a row for each thing."""
    step = next((tick for tick in _TICKS if report.duration_s / tick <= _TICKS_AT_MOST), _TICKS[-1])
    ticks = []
    for number in range(int(report.duration_s / step) + 1):
        at_s = number * step
        # The last label would hang over the edge.
        text = (
            "" if at_s > report.duration_s * 0.97 else (f"{at_s:g} s" if report.duration_s < 90 else clock(at_s)[:-2])
        )
        ticks.append(f'<span class="tick" style="left:{_share(at_s, report)}">{text}</span>')
    rows = [f'<div class="ruler"><span class="name"></span><div class="track">{"".join(ticks)}</div></div>']
    for thing in report.things:
        bars = "".join(
            f'<button type="button" class="bar" data-seek="{start:.3f}" '
            f'style="left:{_share(start, report)};width:{_share(end - start, report)}" '
            f'title="{escape(thing.title)}, {clock(start)}–{clock(end)}" '
            f'aria-label="{escape(thing.title)}: go to {clock(start)}"></button>'
            for start, end in thing.segments
        )
        rows.append(
            f'<div class="lane {_css(thing.decision)}" data-thing="{thing.number}" style="--c:{thing.colour}">'
            f'<span class="name" title="{escape(thing.title)}">{escape(thing.title)}</span>'
            f'<div class="track">{bars}</div></div>'
        )
    return "".join(rows)


def cards(report: FilmReport) -> str:
    """Return a card for each thing."""
    return "".join(map(_card, report.things)) or '<p class="empty">Nothing that one can buy was found.</p>'


def table_rows(report: FilmReport) -> str:
    """Return the rows of the table."""
    rows = []
    for thing in report.things:
        product, runner = thing.product, thing.runner_up
        cells = [
            f'<i class="dot" style="--c:{thing.colour}"></i>{escape(thing.label)}',
            escape(product.title) if product else "—",
            escape(product.price) if product else "",
            _pill(thing),
            f"{thing.confidence:.2f}" if thing.confidence is not None else "",
            escape(_times(thing.segments)),
            f"{escape(runner.title)} ({runner.confidence:.2f})" if runner else "",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "".join(rows)


def making(report: FilmReport) -> str:
    """Return how the answer came about: stages, models, catalogue."""
    summary = report.summary
    longest_s = max([seconds(stage.busy) for stage in summary.stages] + [0.001])
    lines = []
    for stage in summary.stages:
        busy_s = seconds(stage.busy)
        failed = f", {stage.failed} failed" if stage.failed else ""
        lines.append(
            f'<div class="stage-row"><span>{escape(stage.stage)}</span>'
            f'<span class="load"><i style="width:{100 * busy_s / longest_s:.1f}%"></i></span>'
            f"<span>{busy_s:.1f} s · {stage.items} item{'' if stage.items == 1 else 's'}{failed}</span></div>"
        )
    models = [*summary.detection_models, *([summary.embedder] if summary.HasField("embedder") else [])]
    names = [f"{model.name} {model.version}".strip() for model in models]
    if summary.HasField("catalog_revision"):
        names.append(f"catalogue revision {summary.catalog_revision}")
    chips = "".join(f"<li>{escape(name)}</li>" for name in names)
    return "".join(lines) + (f'<ul class="chips">{chips}</ul>' if chips else "")


def failures(report: FilmReport) -> str:
    """Return what went wrong without ending the work."""
    summary = report.summary
    texts = [failure.message for failure in summary.failures]
    if summary.damaged_packets:
        texts.append(f"{summary.damaged_packets} damaged packets of the film were skipped.")
    if summary.truncated:
        texts.append("The film ended well before the length that it states.")
    if not texts:
        return ""
    return f'<ul class="failures">{"".join(f"<li>{escape(text)}</li>" for text in texts)}</ul>'


def _card(thing: Thing) -> str:
    product = thing.product
    heading = escape(product.title if product else thing.label.capitalize())
    if product and product.page:
        heading = f'<a href="{escape(product.page)}" target="_blank" rel="noopener noreferrer nofollow">{heading}</a>'
    subtitle = " · ".join(filter(None, [product.brand if product else "", f"seen as {thing.label}"]))
    price = f'<p class="price">{escape(product.price)}</p>' if product and product.price else ""
    seeks = "".join(
        f'<button type="button" class="seek" data-seek="{start:.3f}">{clock(start)}–{clock(end)}</button>'
        for start, end in thing.segments
    )
    problem = f'<p class="problem">{escape(thing.problem)}</p>' if thing.problem else ""
    return (
        f'<article class="card {_css(thing.decision)}" id="thing-{thing.number}" data-thing="{thing.number}" '
        f'style="--c:{thing.colour}" tabindex="0">{_pictures(thing)}'
        f'<div class="body"><div class="verdict">{_pill(thing)}{_sureness(thing)}</div>'
        f'<h3>{heading}</h3><p class="sub">{escape(subtitle)}</p>{price}{problem}'
        f'<div class="seeks">{seeks}</div>{_runner_up(thing.runner_up)}</div></article>'
    )


def _pictures(thing: Thing) -> str:
    product = thing.product
    view = (
        f'<img class="view" src="{thing.view}" alt="{escape(thing.label)}, as seen in the film">' if thing.view else ""
    )
    if product and product.picture:
        main = f'<img class="reference" src="{product.picture}" alt="{escape(product.title)}, the shop\'s picture">'
    elif product and product.picture_link:
        link = escape(product.picture_link)
        main = f'<a class="reference none" href="{link}" target="_blank" rel="noopener noreferrer">see picture</a>'
    elif view:
        return f'<div class="pictures alone">{view}</div>'
    else:
        main = f'<span class="reference none" aria-hidden="true">{escape(thing.label[:1].upper())}</span>'
    return f'<div class="pictures">{main}{view}</div>'


def _runner_up(runner: ProductView | None) -> str:
    if runner is None:
        return ""
    picture = f'<img src="{runner.picture}" alt="">' if runner.picture else ""
    price = f" · {escape(runner.price)}" if runner.price else ""
    return (
        f'<p class="runner">{picture}<span>Runner-up: <b>{escape(runner.title)}</b>{price} · '
        f"{runner.confidence:.0%} sure</span></p>"
    )


def _pill(thing: Thing) -> str:
    return f'<span class="pill {_css(thing.decision)}">{escape(thing.decision)}</span>' if thing.decision else ""


def _sureness(thing: Thing) -> str:
    if thing.confidence is None:
        return ""
    share = f"{max(0.0, min(1.0, thing.confidence)):.0%}"
    return (
        f'<span class="meter" aria-hidden="true"><i style="width:{share}"></i></span><span class="sure">{share}</span>'
    )


def _css(decision: str) -> str:
    return decision.replace(" ", "-") or "plain"


def _times(segments: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{clock(start)}–{clock(end)}" for start, end in segments)


def _share(at_s: float, report: FilmReport) -> str:
    return f"{max(0.0, min(1.0, at_s / report.duration_s)) * 100:.3f}%"
