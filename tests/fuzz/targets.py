"""The parsers of ours, each as a function of bytes that returns, or raises what it says that it raises."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from shoppable.cli.feed_names import FieldNames
from shoppable.cli.feeds import BrokenRow, FeedError, FeedProduct, read_feed
from shoppable.decoder.settings import DecoderSettings
from shoppable.detector.errors import ConfigurationError
from shoppable.detector.manifest import ModelSpec, read_manifests
from shoppable.detector.taxonomy import read_taxonomy
from shoppable.matcher.convert_filters import read_filter
from shoppable.matcher.page_tokens import read_page_token
from shoppable.runtime.auth.callers import Quota, read_callers
from shoppable.runtime.settings import SettingsError, load
from shoppable.runtime.validation import Violations
from shoppable.runtime.watched_files import ConfigurationError as TableError
from shoppable.v1 import product_catalog_pb2

CORPUS = Path(__file__).parent / "corpus"
_MODELS = [
    ModelSpec.model_validate(
        {"name": "one", "labels": ["person", "cup"], "output": {"layout": "candidates"}, "min_score": 0.3}
    )
]


@dataclass(frozen=True)
class Target:
    """A parser, and the errors by which it refuses what it cannot read.

    `parse` gets the bytes and a file that holds them, which it may read instead.
    """

    name: str
    parse: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = ()

    @property
    def seeds(self) -> Sequence[bytes]:
        """What is known to be good, or to have once been taken wrongly."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]

    def try_on(self, data: bytes, folder: Path) -> None:
        """Parse the bytes; anything but the parser's own refusal comes out."""
        path = folder / f"{self.name}-{os.getpid()}"
        path.write_bytes(data)
        try:
            with contextlib.suppress(self.refusals):
                self.parse(data, path)
        except RecursionError:  # thousands of lines, all alike
            raise AssertionError("the parser ran out of stack") from None


def _feed(_data: bytes, path: Path) -> None:
    for row in read_feed(path):
        assert isinstance(row, FeedProduct | BrokenRow)
        if isinstance(row, FeedProduct):
            row.product.SerializeToString()  # it can be sent
        else:
            assert row.problems


def _settings(_data: bytes, path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOPPABLE_CONFIG", str(path))
        load(DecoderSettings, [], prog="shoppable-decoder")


def _filter(data: bytes, _path: Path) -> None:
    violations = Violations()
    wanted = read_filter(product_catalog_pb2.ProductFilter.FromString(data), "filter", violations)
    if not violations:
        wanted.conditions()
        assert wanted.canonical() == wanted.canonical()


def _page_token(data: bytes, _path: Path) -> None:
    found = read_page_token("products of shop", data.decode(errors="replace"))
    assert found is None or isinstance(found, str)


TARGETS = [
    Target("feed", _feed, (FeedError,)),
    Target("feed_names", lambda _, path: FieldNames.from_file(path), (FeedError,)),
    Target("manifest", lambda _, path: read_manifests([path]), (ConfigurationError,)),
    Target("taxonomy", lambda _, path: read_taxonomy(path, _MODELS), (ConfigurationError,)),
    Target("settings", _settings, (SettingsError,)),
    Target("callers", lambda _, path: read_callers(path, Quota()), (TableError,)),
    Target("filter", _filter, (DecodeError,)),
    Target("page_token", _page_token),
]
