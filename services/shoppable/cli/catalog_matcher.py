"""The matcher that the catalogue commands talk to, and how they print its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shoppable.cli.options import Inference

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from shoppable.cli.console import Reporter
    from shoppable.cli.services import LocalOptions


def local_options(data: Path | None, inference: Inference, models: Path | None) -> LocalOptions:
    """Return the local services' options."""
    from shoppable.cli.services import LocalOptions

    return LocalOptions(inference=inference, data=data, models=models)


@asynccontextmanager
async def open_matcher(
    options: LocalOptions, matcher: str | None
) -> AsyncIterator[tuple[Reporter, str, grpc.aio.Channel]]:
    """Yield who reports, the matcher's address, and a channel to it."""
    from shoppable.cli.console import Reporter
    from shoppable.cli.services import CATALOG_ONLY, reach
    from shoppable.client import open_channel

    reporter = Reporter()
    async with (
        reach(matcher=matcher, options=options, reporter=reporter, services=CATALOG_ONLY) as endpoints,
        open_channel(endpoints.matcher) as channel,
    ):
        yield reporter, endpoints.matcher, channel


def print_json(messages: Sequence[Message]) -> None:
    """Print messages as JSON, one a line when there may be several."""
    from google.protobuf import json_format

    from shoppable.cli.console import make_console

    file = make_console().file
    for message in messages:
        file.write(json_format.MessageToJson(message, indent=None, ensure_ascii=False) + "\n")
