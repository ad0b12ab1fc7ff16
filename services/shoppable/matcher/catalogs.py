"""What is known of a catalogue beside its products, and how it is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shoppable.matcher.names import catalog_name, store_name
from shoppable.runtime.errors import FailedPreconditionError

# Raised when the record or the points change so that an older program could not read or write them. 2: rooted
# embeddings. 3: words of products.
_FORMAT, _FORMATS = 3, (1, 2, 3)


@dataclass(frozen=True)
class ModelIdentity:
    """A model that embeds: embeddings are comparable only if all three are the same."""

    name: str
    version: str
    size: int


@dataclass(frozen=True)
class CatalogRecord:
    """A catalogue as it is stored beside its index."""

    catalog_id: str
    display_name: str
    embedder: ModelIdentity
    created: datetime
    updated: datetime
    revision: int = 1
    attribute_keys: tuple[str, ...] = ()  # in order
    rooted: bool = False  # whether embeddings are stored as `centring.rooted`; those of the first version are not
    worded: bool = False  # whether products can be found by their words; those of catalogues before format 3 cannot
    fit: str = ""  # what it was calibrated to, as `fits` writes it; empty: as the package is
    generation: str = ""  # of its store: a catalogue that was replaced whole has its images elsewhere
    pending: bool = False  # being made beside its name: nobody sees it, and a crash leaves nothing of it

    @property
    def store(self) -> str:
        """The name of what holds its images, by which an index is asked for them."""
        return store_name(self.catalog_id, self.generation)

    def advanced(
        self, *, attribute_keys: frozenset[str] | set[str], updated: datetime, fit: str | None = None
    ) -> "CatalogRecord":
        """Return the record of the next revision, which also carries these attributes, and a fit if one is given.

        Its time is never before the last one's, though the machine's clock may have been put back.
        """
        keys = tuple(sorted({*self.attribute_keys, *attribute_keys}))
        fit = self.fit if fit is None else fit
        latest = max(self.updated, updated)
        return replace(self, revision=self.revision + 1, attribute_keys=keys, updated=latest, fit=fit)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "format": _FORMAT if self.worded else 2 if self.rooted or self.fit else 1,
            "catalog_id": self.catalog_id,
            "display_name": self.display_name,
            "embedder": {
                "name": self.embedder.name,
                "version": self.embedder.version,
                "size": self.embedder.size,
            },
            "created": self.created.isoformat(),
            "updated": self.updated.isoformat(),
            "revision": self.revision,
            "attribute_keys": list(self.attribute_keys),
            "rooted": self.rooted,
            "worded": self.worded,
            "fit": self.fit,
            "generation": self.generation,
            "pending": self.pending,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CatalogRecord":
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is not such a record, or of a newer format.
        """
        try:
            if values["format"] not in _FORMATS:
                raise ValueError(f"has format {values['format']}, and this version reads up to {_FORMAT}")
            embedder = values["embedder"]
            return cls(
                catalog_id=values["catalog_id"],
                display_name=values["display_name"],
                embedder=ModelIdentity(embedder["name"], embedder["version"], int(embedder["size"])),
                created=datetime.fromisoformat(values["created"]),
                updated=datetime.fromisoformat(values["updated"]),
                revision=int(values["revision"]),
                attribute_keys=tuple(values["attribute_keys"]),
                rooted=bool(values.get("rooted", False)),
                worded=bool(values.get("worded", False)),
                fit=str(values.get("fit", "")),
                generation=str(values.get("generation", "")),
                pending=bool(values.get("pending", False)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("is not a catalogue's record") from error


def require_words(record: CatalogRecord) -> None:
    """Refuse to look for words where none are kept.

    Raises:
        FailedPreconditionError: The catalogue was made by a version that kept none.
    """
    if not record.worded:
        raise FailedPreconditionError(
            f"{catalog_name(record.catalog_id)} was made before products could be found by their words: back it"
            " up and restore it, which keeps them",
            reason="CATALOG_TOO_OLD",
        )


def require_embedder(record: CatalogRecord, running: ModelIdentity) -> None:
    """Refuse to compare embeddings of different models.

    Raises:
        FailedPreconditionError: The catalogue was built with another embedder than the running one.
    """
    if record.embedder == running:
        return
    built = record.embedder
    raise FailedPreconditionError(
        f"{catalog_name(record.catalog_id)} was built with embedder {built.name} version {built.version} (size"
        f" {built.size}), and this server runs {running.name} version {running.version} (size {running.size}): import"
        " the products into a new catalogue, or run the server with the old model",
        reason="EMBEDDER_MISMATCH",
        metadata={
            "catalog_embedder": f"{built.name}/{built.version}/{built.size}",
            "server_embedder": f"{running.name}/{running.version}/{running.size}",
        },
    )
