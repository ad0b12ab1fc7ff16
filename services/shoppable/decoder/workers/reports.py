"""Reads what workers report. Only the service does, and so its libraries are not loaded in workers."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from shoppable.decoder.workers.protocol import Report

_REPORTS: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])


def decode(data: bytes) -> Report:
    """Read a report.

    Raises:
        ValueError: It is none.
    """
    return _REPORTS.validate_json(data)
