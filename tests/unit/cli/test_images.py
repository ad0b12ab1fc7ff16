from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shoppable.cli import images
from shoppable.cli.images import ImageError, ImageLoader, is_public

JPEG = b"\xff\xd8\xff\xe0 and so on"
PUBLIC = "https://93.184.216.34"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_RETRY_S", 0.0)


async def fetch(url: str, answer: Answer, *, allow_private: bool = False) -> bytes:
    async with ImageLoader(Path(), allow_private=allow_private, transport=httpx.MockTransport(answer)) as loader:
        return (await loader.load(url)).data


async def test_path_is_read_relative_to_the_feed_and_named_absolutely(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").write_bytes(JPEG)
    async with ImageLoader(tmp_path) as loader:
        loaded = await loader.load("a b.jpg")
    assert loaded.data == JPEG
    assert loaded.uri == (tmp_path / "a b.jpg").resolve().as_uri()


@pytest.mark.parametrize(
    "reference", ["none.jpg", ".", "text.jpg", "a\x00b", "http://shop.example/a.jpg", "file:///a.jpg"]
)
async def test_what_is_no_picture_is_refused(tmp_path: Path, reference: str) -> None:
    (tmp_path / "text.jpg").write_text("secret")
    async with ImageLoader(tmp_path) as loader:
        with pytest.raises(ImageError):
            await loader.load(reference)


async def test_url_is_fetched_from_the_address_that_was_checked() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "93.184.216.34"
        assert request.extensions["sni_hostname"] == "93.184.216.34"
        return httpx.Response(200, content=JPEG, headers={"content-type": "image/jpeg"})

    assert await fetch(f"{PUBLIC}/a.jpg", answer) == JPEG


@pytest.mark.parametrize(
    "location",
    ["http://93.184.216.34/a.jpg", "file:///etc/passwd", "https://127.0.0.1/a.jpg", "//10.0.0.1/", "https://[::1]/"],
)
async def test_redirect_to_another_scheme_or_inside_is_refused(location: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"location": location})

    with pytest.raises(ImageError):
        await fetch(f"{PUBLIC}/a.jpg", answer)
    assert asked == ["93.184.216.34"]


async def test_endless_redirects_end() -> None:
    with pytest.raises(ImageError, match="redirected"):
        await fetch(f"{PUBLIC}/a", lambda _: httpx.Response(302, headers={"location": "/a"}))


async def test_private_address_is_asked_only_if_allowed() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=JPEG)

    with pytest.raises(ImageError, match="--allow-private"):
        await fetch("https://192.168.1.4/a.jpg", answer)
    assert await fetch("https://192.168.1.4/a.jpg", answer, allow_private=True) == JPEG


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404),
        httpx.Response(200, content=JPEG, headers={"content-type": "text/html"}),
        httpx.Response(200, content=b"<html>", headers={"content-type": "image/jpeg"}),
        httpx.Response(200, content=JPEG + bytes(images.MAX_IMAGE_BYTES)),
    ],
    ids=["missing", "another type", "no picture", "too large"],
)
async def test_answer_that_is_no_picture_is_refused_at_once(response: httpx.Response) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return response

    with pytest.raises(ImageError):
        await fetch(f"{PUBLIC}/a.jpg", answer)
    assert len(asked) == 1


async def test_server_that_stumbles_is_asked_again() -> None:
    answers = [httpx.Response(503), httpx.Response(200, content=JPEG)]
    assert await fetch(f"{PUBLIC}/a.jpg", lambda _: answers.pop(0)) == JPEG


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("nonsense", False),
    ],
)
def test_public_addresses_are_told_from_others(address: str, public: bool) -> None:
    assert is_public(address) is public
