"""Writes what was found in a video as one HTML file: nothing is fetched when it is opened, and it can be sent around.

The page is whole without scripts; the script only brings the film, the timeline and the cards together. Whatever comes
from outside (titles, names, addresses) is escaped, and the page's own policy forbids any script but this one.
"""

from __future__ import annotations

import base64
import hashlib
import html
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import quote

from shoppable import __version__
from shoppable.cli import report_parts as parts
from shoppable.cli.report_model import FilmReport, read_response
from shoppable.v1 import orchestrator_pb2

# Beyond it, browsers take long to open the file; the film then lies beside it.
EMBEDDED_FILM_BYTES = 24 * 2**20
_MEDIA_TYPES = {".webm": "video/webm", ".ogv": "video/ogg", ".ogg": "video/ogg", ".mkv": "video/x-matroska"}


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: The report.
        film: The film's copy beside it, if it was too large to be put in.
    """

    path: Path
    film: Path | None


def write(response: orchestrator_pb2.AnnotateVideoResponse, path: Path, *, film: Path | None) -> Written:
    """Write the report of an answer.

    Args:
        response: The answer.
        path: The file to write; its folder is made if need be.
        film: The film itself, if it is a file of this machine.

    Raises:
        OSError: A file cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    copy: Path | None = None
    source = ""
    if film is not None and film.stat().st_size <= EMBEDDED_FILM_BYTES:
        media_type = _MEDIA_TYPES.get(film.suffix.lower(), "video/mp4")
        source = f"data:{media_type};base64,{base64.b64encode(film.read_bytes()).decode('ascii')}"
    elif film is not None:
        copy = path.with_name(f"{path.stem}-film{film.suffix}")
        if film.resolve() != copy.resolve():
            shutil.copyfile(film, copy)
        source = quote(copy.name)
    page = render(response, title=film.name if film is not None else "a film", film_source=source)
    path.write_text(page, encoding="utf-8")
    return Written(path, copy)


def render(response: orchestrator_pb2.AnnotateVideoResponse, *, title: str, film_source: str) -> str:
    """Return the page.

    Args:
        response: The answer.
        title: The film's name.
        film_source: A data: URI, the name of a file beside the report, or empty if there is no film to show.
    """
    report = read_response(response, title=title)
    script = _resource("report_script.js")
    return Template(_resource("report_template.html")).substitute(
        title=html.escape(title),
        policy=html.escape(_policy(script), quote=True),
        style=_resource("report_style.css"),
        script=script,
        data=parts.script_data(report),
        film=_film(film_source),
        width=report.width,
        height=report.height,
        ratio=f"{report.width / report.height:.5f}",
        facts=parts.facts(report),
        timeline=parts.timeline(report),
        cards=parts.cards(report),
        rows=parts.table_rows(report),
        making=parts.making(report),
        failures=parts.failures(report),
        duration=f"{report.duration_s:.3f}",
        duration_clock=parts.clock(report.duration_s),
        count=_count(report),
        version=html.escape(__version__),
    )


def _count(report: FilmReport) -> str:
    number = len(report.things)
    return f"{number} thing{'' if number == 1 else 's'}"


def _film(source: str) -> str:
    if not source:
        return '<p class="no-film">The film itself is not part of this report.</p>'
    return f'<video id="film" src="{html.escape(source)}" controls muted playsinline preload="auto"></video>'


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return resources.files("shoppable.cli").joinpath(name).read_text(encoding="utf-8")
