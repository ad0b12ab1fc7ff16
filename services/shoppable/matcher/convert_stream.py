"""An upsert stream: the config that comes first, the products after it, and the answers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shoppable.matcher.names import CATALOG_NAME_RULE, catalog_name, parse_catalog_name
from shoppable.matcher.upserts import Outcome, RowResult
from shoppable.runtime.errors import FailedPreconditionError, InvalidRequestError, Violation, to_status
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2 as messages

_MAX_REQUEST_ID = 128
_OUTCOMES = {
    Outcome.CREATED: messages.UPSERT_OUTCOME_CREATED,
    Outcome.UPDATED: messages.UPSERT_OUTCOME_UPDATED,
    Outcome.UNCHANGED: messages.UPSERT_OUTCOME_UNCHANGED,
    Outcome.FAILED: messages.UPSERT_OUTCOME_FAILED,
}


@dataclass(frozen=True)
class StreamConfig:
    """What all products of a stream share."""

    catalog_id: str
    create_if_missing: bool
    replace: bool


async def read_config(requests: AsyncIterator[messages.UpsertProductsRequest]) -> StreamConfig:
    """Return the stream's config, its first message.

    Raises:
        InvalidRequestError: The first message is none, or is wrong.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("request") != "config":
        raise InvalidRequestError([Violation("config", "must be the first message of the stream")])
    violations = Violations()
    catalog_id = parse_catalog_name(first.config.catalog)
    violations.check(catalog_id is not None, "config.catalog", CATALOG_NAME_RULE)
    rule = f"must be at most {_MAX_REQUEST_ID} characters"
    violations.check(len(first.config.request_id) <= _MAX_REQUEST_ID, "config.request_id", rule)
    violations.raise_if_any()
    return StreamConfig(catalog_id or "", first.config.create_catalog_if_missing, first.config.replace_catalog)


def require_all_taken(catalog_id: str, summary: messages.UpsertSummary) -> None:
    """Refuse to replace a catalogue by less than was meant.

    Raises:
        FailedPreconditionError: Products were refused.
    """
    if summary.failed:
        raise FailedPreconditionError(
            f"{catalog_name(catalog_id)} stays as it is: {summary.failed} products were refused, see their results",
            reason="PRODUCTS_REFUSED",
            metadata={"failed": str(summary.failed)},
        )


def result_to_message(result: RowResult) -> messages.UpsertResult:
    """Return what became of one product."""
    message = messages.UpsertResult(
        row=result.row,
        product_id=result.product_id,
        outcome=_OUTCOMES[result.outcome],
        revision=result.revision,
    )
    if result.error:
        message.status.CopyFrom(to_status(result.error))
    return message
