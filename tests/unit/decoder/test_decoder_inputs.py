"""URIs, and the allowed roots of files."""

import contextlib
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.decoder.domain import FilePath, S3Object, WebAddress
from shoppable.decoder.errors import RefusedVideoError
from shoppable.decoder.inputs import FileRoots
from shoppable.decoder.uris import read_uri
from shoppable.runtime.errors import NotFoundError, PermissionDeniedError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(b"film")
    (folder / "inner").mkdir()
    (folder / "inner" / "a film.mp4").write_bytes(b"inner")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root-and-more").mkdir()
    (tmp_path / "root-and-more" / "film.mp4").write_bytes(b"other")
    return folder


def read(root, path) -> bytes:
    with FileRoots([root], max_bytes=10**9).open(str(path), uri=f"file://{path}", field="source.uri") as opened:
        data = opened.file.read()
        assert len(data) == opened.size_bytes
        return data


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b.mp4", "/a/b.mp4"),
        ("file://localhost/a/b.mp4", "/a/b.mp4"),
        ("file:/a/b.mp4", "/a/b.mp4"),
        ("FILE:///a/b.mp4", "/a/b.mp4"),
        ("file:///a/b%20c%25.mp4", "/a/b c%.mp4"),
        ("file:///a/%C3%A9.mp4", "/a/é.mp4"),
        ("file:///a/%FF.mp4", "/a/\udcff.mp4"),
    ],
)
def test_a_file_uri_names_a_path(uri, path):
    assert read_uri(uri, {"file"}) == FilePath(path)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "film.mp4",
        "/a/film.mp4",
        "https://example.com/a.mp4",
        "s3://bucket/a.mp4",
        "concat:a.mp4|b.mp4",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "file://otherhost/a.mp4",
        "file://[bad/a.mp4",
        "file:a.mp4",
        "file:///a?b",
        "file:///a#b",
        "file:///a\n/b",
        "file:///a b",
        "file:///a%00b",
        "file:///" + "a" * 9000,
    ],
)
def test_what_is_no_file_uri_is_refused(uri):
    with pytest.raises(ValueError, match="must"):
        read_uri(uri, {"file"})


ALL = {"file", "https", "http", "s3"}


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("https://Shop.Example/a.mp4", WebAddress("https", "shop.example", 443, "/a.mp4")),
        ("https://shop.example./", WebAddress("https", "shop.example", 443, "/")),
        ("https://shop.example:8443?a=b&c=/d", WebAddress("https", "shop.example", 8443, "/?a=b&c=/d")),
        ("http://93.184.216.34/a%20b", WebAddress("http", "93.184.216.34", 80, "/a%20b")),
        ("https://[2606:2800::1]:444/x", WebAddress("https", "2606:2800::1", 444, "/x")),
        ("s3://bucket/a/b%20c%25.mp4", S3Object("bucket", "a/b c%.mp4")),
        ("s3://bucket/%C3%A9", S3Object("bucket", "é")),
    ],
)
def test_a_uri_names_a_place_elsewhere(uri, place):
    assert read_uri(uri, ALL) == place


@pytest.mark.parametrize(
    "uri",
    [
        "https://",
        "https:///a",
        "https:a",
        "https://user@shop.example/",
        "https://user:word@shop.example/",
        "https://@shop.example/",
        "https://shop.example:0x50/",
        "https://shop.example:99999/",
        "https://shop.example/#part",
        "https://shop.example\\@inside/",
        "https://shöp.example/",
        "https://shop..example:x/",
        "https://a b/",
        "https://[::1/",
        "ftp://shop.example/",
        "s3://bucket",
        "s3://bucket/",
        "s3://Bucket_1/a",
        "s3://bucket/../other/a",
        "s3://bucket/a/%2e%2e/b",
        "s3://bucket//a",
        "s3://bucket/a%00",
        "s3://bucket/a%0a",
        "s3://bucket/%FF",
        "s3://bucket/a?versionId=1",
        "s3://key:secret@bucket/a",
    ],
)
def test_what_names_no_place_is_refused(uri):
    with pytest.raises(ValueError, match="must"):
        read_uri(uri, ALL)


def test_schemes_that_are_not_allowed_are_refused_and_the_others_named():
    with pytest.raises(ValueError, match=r"reads: file://, s3://$"):
        read_uri("https://shop.example/a", {"s3", "file"})


@given(st.text(max_size=50) | st.text(max_size=50).map("https://".__add__) | st.text(max_size=50).map("s3://a".__add__))
def test_any_text_is_a_place_or_refused(text):
    with contextlib.suppress(ValueError):
        match read_uri(text, ALL):
            case FilePath(path):
                assert path.startswith("/")
            case WebAddress() as address:
                assert address.host.isascii()
                assert address.url.isascii()
                assert read_uri(address.url, ALL) == address
            case S3Object(bucket, key):
                assert bucket
                assert key


def test_files_below_the_root_are_read(root):
    assert read(root, root / "film.mp4") == b"film"
    assert read(root, root / "inner" / "a film.mp4") == b"inner"
    assert read(root, root / "inner" / ".." / "film.mp4") == b"film"


@pytest.mark.parametrize(
    "path",
    ["../secret", "inner/../../secret", "../root-and-more/film.mp4", "../none", "..", "/etc/passwd"],
)
def test_a_path_out_of_the_root_is_denied_whether_it_exists_or_not(root, path):
    with pytest.raises(PermissionDeniedError) as caught:
        read(root, root / path)
    assert caught.value.reason == "OUTSIDE_ROOTS"
    assert str(root.parent) not in caught.value.message


def test_links_may_stay_below_the_root_but_not_leave_it(root):
    (root / "inside").symlink_to(root / "film.mp4")
    (root / "outside").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent)
    assert read(root, root / "inside") == b"film"
    for path in ("outside", "folder/secret"):
        with pytest.raises(PermissionDeniedError):
            read(root, root / path)


def test_a_link_that_is_put_in_place_after_the_check_is_not_followed(root, monkeypatch):
    """The check is made to see the plain folder that was there before."""
    (root / "swapped").symlink_to(root.parent)
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: str(path) if "swapped" in str(path) else real(path))
    for path in ("swapped/secret", "swapped"):
        with pytest.raises((PermissionDeniedError, NotFoundError)):
            read(root, root / path)


def test_a_root_may_itself_be_a_link(root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert read(link, link / "film.mp4") == b"film"


def test_no_roots_allow_no_file(root):
    with pytest.raises(PermissionDeniedError):
        FileRoots([], max_bytes=10**9).open(str(root / "film.mp4"), uri="file:///x", field="source.uri")


def test_a_missing_file_is_named_by_its_uri(root):
    for path in ("none.mp4", "none/film.mp4", "film.mp4/film.mp4", "x" * 300):
        with pytest.raises(NotFoundError) as caught:
            read(root, root / path)
        assert caught.value.resource_name == f"file://{root / path}"


def test_what_is_no_plain_file_is_refused_without_waiting(root):
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        for path in ("pipe", "socket", "inner"):
            with pytest.raises(RefusedVideoError) as caught:
                read(root, root / path)
            assert caught.value.reason == "NOT_A_FILE"
    with pytest.raises(RefusedVideoError):
        read("/dev", "/dev/zero")
    with pytest.raises(RefusedVideoError):
        read(root, root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_denied(root):
    (root / "film.mp4").chmod(0)
    with pytest.raises(PermissionDeniedError) as caught:
        read(root, root / "film.mp4")
    assert caught.value.reason == "FILE_NOT_READABLE"
