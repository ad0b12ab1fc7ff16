"""What a model's label is to a shop: a category, or not for sale, and which labels of different models mean the same.

An operator can replace the file (`taxonomy.toml`, whose head explains it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from shoppable.detector.errors import ConfigurationError
from shoppable.detector.manifest import ModelSpec
from shoppable.detector.toml_file import read_toml

CategoryId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class Sort:
    """What the taxonomy makes of one label of one model."""

    label: str
    category: str  # empty if not for sale
    kind: str  # labels of one kind name the same sort of thing

    @property
    def for_sale(self) -> bool:
        """Whether things of this label are for sale."""
        return bool(self.category)


def _read_category(value: object) -> str:
    if value is False:
        return ""
    if isinstance(value, str) and value:
        return value
    raise ValueError("must be a category, or false for what is not for sale")


class _Entry(BaseModel):
    """The long form of a label's line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Annotated[str, BeforeValidator(_read_category)]
    kind: Text | None = None  # None: the label itself


def _read_entry(value: object) -> object:
    """Take the short form, a category or false, as the long one."""
    return value if isinstance(value, dict) else {"category": value}


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # Category id -> name for people.
    categories: dict[CategoryId, Text] = Field(min_length=1)
    # Model -> label -> category.
    labels: dict[str, dict[str, Annotated[_Entry, BeforeValidator(_read_entry)]]]


class Taxonomy:
    """The categories, and the sort of every label of every model."""

    def __init__(self, categories: Mapping[str, str], sorts: Mapping[str, Sequence[Sort]]) -> None:
        """Take category ids with their names, and each model's sorts in the order of its classes."""
        self.categories = dict(categories)
        self._sorts = {model: tuple(of_model) for model, of_model in sorts.items()}

    def sorts(self, model: str) -> Sequence[Sort]:
        """Return the sorts of a model's labels, in the order of its classes."""
        return self._sorts[model]


def read_taxonomy(path: Path, models: Sequence[ModelSpec]) -> Taxonomy:
    """Read the taxonomy of the given models; what the file says of other models is not used.

    Raises:
        ConfigurationError: The file is broken; lacks a model or a label, or has a label that the model lacks; names a
            category that it does not declare; or puts one kind of thing into two categories.
    """
    file = read_toml(path, TypeAdapter(_File))
    sorts = {model.name: _sorts_of(path, file, model) for model in models}
    places: dict[str, tuple[str, str]] = {}  # kind -> its category, and where it was first seen
    for model, of_model in sorts.items():
        for sort in of_model:
            field = f"labels.{model}.{sort.label}"
            category, where = places.setdefault(sort.kind, (sort.category, field))
            if category != sort.category:
                raise ConfigurationError(
                    path,
                    field,
                    f"the kind {sort.kind!r} is {_said(sort.category)} here and {_said(category)} in {where}",
                )
    return Taxonomy(file.categories, sorts)


def _said(category: str) -> str:
    return f"of category {category!r}" if category else "not for sale"


def _sorts_of(path: Path, file: _File, model: ModelSpec) -> Sequence[Sort]:
    given = file.labels.get(model.name)
    if given is None:
        raise ConfigurationError(path, f"labels.{model.name}", "is missing, and the model is declared")
    missing = [label for label in model.labels if label not in given]
    if missing:
        raise ConfigurationError(path, f"labels.{model.name}", f"lacks labels of the model: {', '.join(missing)}")
    unknown = sorted(given.keys() - set(model.labels))
    if unknown:
        raise ConfigurationError(path, f"labels.{model.name}.{unknown[0]}", "is no label of the model")
    sorts = []
    for label in model.labels:
        entry = given[label]
        if entry.category and entry.category not in file.categories:
            raise ConfigurationError(
                path, f"labels.{model.name}.{label}", f"the category {entry.category!r} is not declared in [categories]"
            )
        sorts.append(Sort(label, entry.category, (entry.kind or label).casefold()))
    return tuple(sorts)
