"""The form of a table, in the taxonomy file or a model's manifest, that says what each label is to a shop."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _read_category(value: object) -> str:
    if value is False:
        return ""
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be a category, or false for what is not for sale")


class LabelEntry(BaseModel):
    """What a label is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Annotated[str, BeforeValidator(_read_category)]  # empty if not for sale
    kind: str | None = Field(None, min_length=1, max_length=200)  # None: the label itself


def _read_entry(value: object) -> object:
    """Take the short form, a category or false, as the long one."""
    return value if isinstance(value, dict) else {"category": value}


LabelTable = dict[str, Annotated[LabelEntry, BeforeValidator(_read_entry)]]
