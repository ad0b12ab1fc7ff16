"""What a model's label is to a shop: a category, or not for sale, and which labels of different models mean the same.

An operator can replace the file (`taxonomy.toml`, whose head explains it).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shoppable.detector.apparel import Region
from shoppable.detector.errors import ConfigurationError, Mistake
from shoppable.detector.label_table import LabelTable
from shoppable.detector.manifest import ModelSpec
from shoppable.detector.toml_file import read_toml
from shoppable.runtime.categories import Category, CategoryTable, lineage, mistakes_in, packaged_categories


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


class Taxonomy:
    """The categories, the sort of every label of every model, and the categories of derived regions."""

    def __init__(
        self,
        categories: Mapping[str, Category],
        sorts: Mapping[str, Sequence[Sort]],
        derived: Mapping[Region, str] | None = None,
    ) -> None:
        """Take the categories by id, each model's sorts in the order of its labels, and the derived regions."""
        self.categories = dict(categories)
        self.derived = dict(derived or {})
        self._sorts = {model: tuple(of_model) for model, of_model in sorts.items()}

    def sorts(self, model: str) -> Sequence[Sort]:
        """Return the sorts of a model's labels, in the order of its labels."""
        return self._sorts[model]

    def labels_of(self, category: str) -> Sequence[str]:
        """Return the labels, of whatever model, of a category itself, each once and in alphabetical order."""
        return sorted({sort.label for sorts in self._sorts.values() for sort in sorts if sort.category == category})

    def within(self, categories: frozenset[str]) -> frozenset[str]:
        """Return categories and all that are a part of them."""
        return frozenset(one for one in self.categories if categories.intersection(lineage(one, self.categories)))


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: CategoryTable | None = Field(None, min_length=1)  # None: the suite's own
    labels: dict[str, LabelTable] = Field(default_factory=dict)  # by model
    derived: dict[Region, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """A field of a file."""

    path: Path
    field: str

    def below(self, name: str) -> "_Place":
        return _Place(self.path, f"{self.field}.{name}")

    def mistake(self, problem: str) -> Mistake:
        return Mistake(self.path, self.field, problem)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A label's sort, and where it is declared."""

    sort: Sort
    place: _Place


def read_taxonomy(path: Path, models: Sequence[ModelSpec]) -> Taxonomy:
    """Read the taxonomy of the given models; what the file says of other models is not used.

    Raises:
        ConfigurationError: A file is broken; lacks a model or a label, or has a label that the model lacks; names a
            category that is not declared; has categories whose parents are unknown or lead in a circle; or puts one
            kind of thing into two categories. All mistakes at once.
    """
    file = read_toml(path, TypeAdapter(_File))
    categories = packaged_categories() if file.categories is None else file.categories
    mistakes = [Mistake(path, f"categories.{of}.parent", problem) for of, problem in mistakes_in(categories)]
    used = [(_Place(path, f"derived.{region.value}"), category) for region, category in file.derived.items()]
    sorts: dict[str, Sequence[Sort]] = {}
    everything: list[_Sorted] = []
    for model in models:
        place, table = _table_of(model, path, file, mistakes)
        of_model = [
            _Sorted(Sort(label, entry.category, (entry.kind or label).casefold()), place.below(label))
            for label, entry in ((label, table[label]) for label in model.labels if label in table)
        ]
        sorts[model.name] = [one.sort for one in of_model]
        everything += of_model
    used += [(one.place, one.sort.category) for one in everything if one.sort.category]
    mistakes += [
        place.mistake(f"the category {category!r} is not declared")
        for place, category in used
        if category not in categories
    ]
    mistakes += _torn_kinds(everything)
    if mistakes:
        raise ConfigurationError(mistakes)
    return Taxonomy(categories, sorts, file.derived)


def _table_of(model: ModelSpec, path: Path, file: _File, mistakes: list[Mistake]) -> tuple[_Place, LabelTable]:
    """Return the table of a model's labels and where it is; note what is wrong with it."""
    shared = file.labels.get(model.name)
    place = _Place(path, f"labels.{model.name}")
    if model.taxonomy is None and shared is None:
        mistakes.append(place.mistake(f"is missing; {model.file} declares the model and has no [taxonomy]"))
        return place, {}
    if model.taxonomy is not None and shared is not None:
        mistakes.append(place.mistake(f"is declared in {model.file}, too: [taxonomy]"))
    if model.taxonomy is not None:
        place = _Place(model.file, "taxonomy")
    table = shared if model.taxonomy is None else model.taxonomy
    assert table is not None  # noqa: S101 -- one of them is there
    missing = [label for label in model.labels if label not in table]
    if missing:
        mistakes.append(place.mistake(f"lacks labels of the model: {', '.join(missing)}"))
    mistakes += [
        place.below(label).mistake("is no label of the model") for label in sorted(table.keys() - {*model.labels})
    ]
    return place, table


def _torn_kinds(everything: Sequence[_Sorted]) -> Iterator[Mistake]:
    """Yield a mistake for each label of another category than the first label of its kind."""
    first: dict[str, _Sorted] = {}
    for one in everything:
        other = first.setdefault(one.sort.kind, one)
        if other.sort.category != one.sort.category:
            yield one.place.mistake(
                f"the kind {one.sort.kind!r} is {_said(one.sort)} here and {_said(other.sort)} in {other.place.field}"
            )


def _said(sort: Sort) -> str:
    return f"of category {sort.category!r}" if sort.category else "not for sale"
