"""The shoppable categories: one list, by which the detector sorts and a catalogue is best sorted, with parents.

The suite's own are in `categories.toml`; an operator may give the detector others (its taxonomy file).
"""

import functools
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

CategoryId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]


class Category(BaseModel):
    """A category: its name for people, and the category that it is a part of; empty at the top."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    parent: str = ""


def _read(value: object) -> object:
    """Take the short form, a name, as the long one."""
    return {"name": value} if isinstance(value, str) else value


# Id -> category, as a file has it. Parents are not checked: see `mistakes_in`.
CategoryTable = dict[CategoryId, Annotated[Category, BeforeValidator(_read)]]


@functools.cache
def packaged_categories() -> Mapping[str, Category]:
    """Return the suite's own categories by their ids."""
    text = resources.files(__package__).joinpath("categories.toml").read_text(encoding="utf-8")
    return TypeAdapter(CategoryTable).validate_python(tomllib.loads(text))


def lineage(category: str, categories: Mapping[str, Category]) -> Iterator[str]:
    """Yield a category's id, its parent's, and so on to the top; nothing if it is not among them.

    The parents must be free of mistakes.
    """
    while category in categories:
        yield category
        category = categories[category].parent


def mistakes_in(categories: Mapping[str, Category]) -> Iterator[tuple[str, str]]:
    """Yield the id of each category whose parent is none of them, or leads in a circle, and what is wrong in words."""
    for start, category in categories.items():
        if category.parent and category.parent not in categories:
            yield start, f"the parent {category.parent!r} is no category"
        path, seen = start, [start]
        while (path := categories[path].parent) in categories:
            seen.append(path)
            if path == start:
                yield start, f"its parents lead in a circle: {' > '.join(seen)}"
            if seen.count(path) > 1:
                break
