"""A calibration stream: the config that comes first, the things after it, and the summary."""

import asyncio
from collections.abc import AsyncIterator

from shoppable.matcher.calibrating import Learned
from shoppable.matcher.committing import until_commit
from shoppable.matcher.convert_match import MAX_VIEWS
from shoppable.matcher.names import CATALOG_NAME_RULE, parse_catalog_name
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.ports import View
from shoppable.matcher.quality import Quality
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2 as messages

_MAX_REQUEST_ID = 128
_MAX_SHARE = 0.9  # of things not for sale


async def read_calibration_config(
    requests: AsyncIterator[messages.CalibrateCatalogRequest],
) -> messages.CalibrationConfig:
    """Return the stream's config, its first message.

    Raises:
        InvalidRequestError: The first message is none, or is wrong.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("request") != "config":
        raise InvalidRequestError([Violation("config", "must be the first message of the stream")])
    violations = Violations()
    violations.check(parse_catalog_name(first.config.catalog) is not None, "config.catalog", CATALOG_NAME_RULE)
    rule = f"must be at most {_MAX_REQUEST_ID} characters"
    violations.check(len(first.config.request_id) <= _MAX_REQUEST_ID, "config.request_id", rule)
    share = "not_for_sale_share"
    violations.optional_number(first.config, share, low=0, high=_MAX_SHARE, default=0, prefix="config.")
    violations.raise_if_any()
    return first.config


async def things_of_stream(
    requests: AsyncIterator[messages.CalibrateCatalogRequest], config: messages.CalibrationConfig, *, most: int
) -> AsyncIterator[messages.LabelledThing]:
    """Yield the things.

    Raises:
        InvalidRequestError: A message is no thing, or there are too many.
        FailedPreconditionError: The stream ended without a commit.
    """
    count = 0
    async for thing in until_commit(requests, "thing", name=config.catalog, needed=not config.reset):
        count += 1
        if count > most:
            raise InvalidRequestError([Violation("thing", f"must be at most {most} things")])
        yield thing


async def read_views(thing: messages.LabelledThing, pictures: PictureReader) -> list[View]:
    """Decode a thing's pictures.

    Raises:
        InvalidRequestError: There are none or too many, or one cannot be read.
    """
    field, count = f"thing[{thing.row}].views", len(thing.views)
    if not 1 <= count <= MAX_VIEWS:
        raise InvalidRequestError([Violation(field, f"must be 1..{MAX_VIEWS}, and is {count}")])
    read = await asyncio.gather(*(pictures.read(image, f"{field}[{place}]") for place, image in enumerate(thing.views)))
    wrong = [one for one in read if isinstance(one, Violation)]
    if wrong:
        raise InvalidRequestError(wrong)
    return [View(picture=one[0], colour=one[1]) for one in read if not isinstance(one, Violation)]


def learned_to_message(learned: Learned) -> messages.CalibrationSummary:
    """Return what came of it."""
    return messages.CalibrationSummary(
        revision=learned.revision,
        things=learned.things,
        things_not_for_sale=learned.not_for_sale,
        before=_quality_to_message(learned.before),
        after=_quality_to_message(learned.after),
    )


def _quality_to_message(quality: Quality) -> messages.MatchQuality:
    return messages.MatchQuality(
        recall_at_1=quality.recall_at_1,
        recall_at_5=quality.recall_at_5,
        calibration_error=quality.calibration_error,
        match_rate=quality.match_rate,
        match_precision=quality.match_precision,
    )
