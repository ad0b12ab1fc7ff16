import html.parser
import json
import re
from pathlib import Path

import pytest

from shoppable.cli import report
from shoppable.cli.report_model import read_response
from shoppable.v1 import orchestrator_pb2 as pb
from unit.cli.sample_answer import SAMPLES, sample_answer

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u2028"


class Page(html.parser.HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(answer: pb.AnnotateVideoResponse, **more: str) -> str:
    return report.render(answer, title=more.get("title", "film.mp4"), film_source=more.get("film_source", ""))


def script_data(page: str) -> dict[str, object]:
    found = re.search(r'id="film-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    loaded: dict[str, object] = json.loads(found[1])
    return loaded


def test_report_fetches_nothing() -> None:
    page = Page(rendered(sample_answer(), film_source="data:video/mp4;base64,AAAA"))
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "poster", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert "http" not in report._resource("report_style.css")
    assert "http" not in report._resource("report_script.js")


def test_hostile_texts_stay_texts() -> None:
    answer = sample_answer()
    for thing in answer.objects:
        thing.label = thing.match_status.message = HOSTILE
        for match in thing.products:
            match.product.title = match.product.brand = HOSTILE
            match.product.uri = "javascript:alert(3)"
            match.product.price.currency_code = HOSTILE
    answer.summary.video.codec = answer.summary.stages[0].stage = answer.summary.detection_models[0].name = HOSTILE
    answer.summary.failures.add(message=HOSTILE)
    text = rendered(answer, title=HOSTILE)
    page = Page(text)
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "film-data"}, {}]
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "javascript:" not in (attributes.get("href") or "")
        assert attributes.get("src") != "x"
    things = script_data(text)["things"]
    assert isinstance(things, list)
    assert HOSTILE in things[0]["title"]


def test_policy_allows_this_script_and_no_other() -> None:
    import base64
    import hashlib

    text = rendered(sample_answer())
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(one["content"] for tag, one in Page(text).elements if tag == "meta" and "http-equiv" in one)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_page_tells_everything_without_its_script() -> None:
    text = Page(rendered(sample_answer())).text
    for word in ("Lumo 14 laptop, silver", "€1,099.00", "match", "similar", "no match", "0:00.0–0:07.0", "Runner-up"):
        assert word in text


def test_boxes_and_segments_reach_the_script() -> None:
    answer = sample_answer()
    things = script_data(rendered(answer))["things"]
    assert isinstance(things, list)
    assert len(things) == len(answer.objects)
    assert [len(thing["boxes"]) for thing in things] == [len(thing.boxes) for thing in answer.objects]
    mug = next(thing for thing in things if thing["title"].endswith("Lagoon mug, teal"))
    assert len(mug["segments"]) == 2


def test_product_pictures_are_put_in_and_links_only_linked() -> None:
    answer = sample_answer()
    product = answer.objects[0].products[0]
    product.evidence.image_uri = "https://shop.example/a.jpg"
    for image in product.product.images:
        image.uri = "https://shop.example/b.jpg"
    things = read_response(answer, title="").things
    assert things[0].product is not None
    assert (things[0].product.picture, things[0].product.picture_link) == ("", "https://shop.example/a.jpg")
    assert things[1].product is not None
    assert things[1].product.picture.startswith("data:image/jpeg;base64,")


def test_file_that_is_no_picture_is_not_put_in(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_text("root:x:0:0")
    answer = sample_answer()
    answer.objects[0].products[0].evidence.image_uri = secret.as_uri()
    thing = read_response(answer, title="").things[0]
    assert thing.product is not None
    assert thing.product.picture.startswith("data:image/jpeg;base64,")  # of the product's own pictures


def test_small_film_is_put_in(tmp_path: Path) -> None:
    written = report.write(sample_answer(), tmp_path / "deep" / "report.html", film=SAMPLES / "film.mp4")
    assert written.film is None
    assert 'src="data:video/mp4;base64,' in written.path.read_text("utf-8")


def test_large_film_lies_beside_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EMBEDDED_FILM_BYTES", 10)
    written = report.write(sample_answer(), tmp_path / "my report.html", film=SAMPLES / "film.mp4")
    assert written.film == tmp_path / "my report-film.mp4"
    assert written.film.stat().st_size == (SAMPLES / "film.mp4").stat().st_size
    assert 'src="my%20report-film.mp4"' in written.path.read_text("utf-8")


def test_answer_without_anything_is_a_report_too() -> None:
    text = Page(rendered(pb.AnnotateVideoResponse())).text
    assert "Nothing that one can buy was found" in text
    assert "not part of this report" in text


def test_objects_without_a_catalogue_have_no_decision() -> None:
    answer = sample_answer()
    for thing in answer.objects:
        del thing.products[:]
        thing.decision = 0
        thing.ClearField("confidence")
    assert "runner" not in Page(rendered(answer)).text.split("Runner-up", 1)[1]
