"""What the pipelines need of the world: a model that embeds, and an index of reference images."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.filters import Condition
from shoppable.matcher.names import catalog_name
from shoppable.matcher.products import Product, ReferenceImage
from shoppable.runtime.errors import NotFoundError

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Space(Enum):
    """The two vectors of each image; a search goes through one."""

    EMBEDDING = "embedding"  # of the model
    COLOUR = "colour"  # of shoppable.matcher.colour


@dataclass(frozen=True)
class ImageVectors:
    """An image's vectors, each of length 1."""

    embedding: Floats
    colour: Floats


@dataclass(frozen=True)
class ImagePoint:
    """One reference image to be stored, with its product's data; without vectors, those stored before are kept."""

    image: ReferenceImage
    ordinal: int
    vectors: ImageVectors | None


@dataclass(frozen=True)
class ProductChange:
    """All that a product shall have: its images in order, and the ids of images that it no longer has."""

    product: Product
    content_hash: str
    points: Sequence[ImagePoint]
    stale_image_ids: Sequence[str] = ()


@dataclass(frozen=True)
class StoredImage:
    """A stored image, without its vectors."""

    image_id: str
    digest: str
    content_hash: str
    product: Product


@dataclass(frozen=True)
class ImageHit:
    """A reference image that a search found, and how like it is: the cosine of the two vectors."""

    product_id: str
    image_id: str
    image_uri: str
    category: str
    similarity: float


@dataclass(frozen=True)
class TextHit:
    """A product whose words a search found, and how well: BM25, above 0."""

    product_id: str
    score: float


@dataclass(frozen=True)
class IndexedImage:
    """A reference image as the index holds it."""

    product_id: str
    image_id: str
    vectors: ImageVectors


@dataclass(frozen=True)
class Counts:
    """How much a catalogue holds."""

    products: int = 0
    images: int = 0


class CatalogGoneError(NotFoundError):
    """The catalogue that an operation works on does not exist, or does no more."""

    def __init__(self, catalog_id: str) -> None:
        name = catalog_name(catalog_id)
        super().__init__("catalog", name, f"{name} does not exist")


class Embedder(Protocol):
    """A model that turns pictures into vectors."""

    @property
    def side(self) -> int:
        """Side in pixels of the square that it takes."""

    async def identity(self) -> ModelIdentity:
        """Tell which model runs.

        Raises:
            UnavailableError: It cannot be reached.
        """

    async def embed(self, pictures: Sequence[Pixels]) -> list[Floats]:
        """Return the vectors, of length 1, of pictures [side, side, 3].

        Raises:
            UnavailableError: It cannot be reached.
            DeadlineExceededError: The call's time is over.
        """

    async def check(self) -> None:
        """Raise unless a real inference succeeds now."""


class VectorIndex(Protocol):
    """Catalogues and their images. What a write has returned from is durable and is seen by every later read.

    A catalogue's images are in a store, which its record names: they are asked for by it, so that one request never
    reads two of them. A catalogue is replaced whole by filling another store (`stage`) and putting it in place
    (`promote`).

    Writes to one catalogue are not to overlap: callers hold a lock. All raise UnavailableError if the index cannot be
    reached, and DeadlineExceededError; those on one catalogue or store raise CatalogGoneError if it does not exist.
    """

    async def check(self) -> None:
        """Raise unless the index can be read now."""

    async def list_catalogs(self) -> list[CatalogRecord]:
        """Return all catalogues in order of their ids."""

    async def get_catalog(self, catalog_id: str) -> CatalogRecord | None:
        """Return a catalogue; None if there is none."""

    async def create_catalog(self, record: CatalogRecord) -> bool:
        """Make an empty catalogue; return False if there is one of this id."""

    async def delete_catalog(self, catalog_id: str) -> bool:
        """Delete a catalogue and its images; return False if there is none."""

    async def stage(self, record: CatalogRecord) -> None:
        """Make the empty store that a record names; nobody sees it, and it does not outlive a crash for long."""

    async def promote(self, record: CatalogRecord, *, expected: int | None) -> bool:
        """Make a record, whose store was staged, a catalogue's, at once and durably.

        Return False, and change nothing, unless the catalogue is at the expected revision; None: there is none. The
        store that it had stays, for those who read it, until it is discarded.
        """

    async def discard(self, store: str) -> None:
        """Delete a store that is no catalogue's; one that does not exist is left alone."""

    async def count(self, store: str) -> Counts:
        """Count products and images."""

    async def advance(
        self, catalog_id: str, *, attribute_keys: Set[str], updated: datetime, fit: str | None = None
    ) -> CatalogRecord:
        """Take the next revision, for a write that follows, and index attributes that are new. Durable at once.

        A fit, if given, replaces the catalogue's; readers see it with the revision.

        A revision that is taken and then not written is skipped: revisions only grow.
        """

    async def index_attributes(self, store: str, keys: Set[str]) -> None:
        """Let filters ask for these attributes; `advance` does it for a catalogue's own store."""

    async def write(self, store: str, changes: Sequence[ProductChange], *, revision: int) -> None:
        """Store products, all under the revision that `advance` gave."""

    async def delete_product(self, store: str, product_id: str, *, revision: int) -> None:
        """Delete all images of a product, under the revision that `advance` gave."""

    async def stored_images(self, store: str, product_id: str) -> list[StoredImage]:
        """Return what is stored of a product, in no order; empty if there is no such product."""

    async def stored_products(self, store: str, product_ids: Sequence[str]) -> list[ProductChange]:
        """Return all that is stored of at most 1000 products, vectors too, in the order of their ids."""

    async def get_products(
        self, store: str, product_ids: Sequence[str], where: Sequence[Condition] = ()
    ) -> dict[str, Product]:
        """Return those of at most 1000 products that exist and fulfil the conditions."""

    async def product_ids(self, store: str) -> list[str]:
        """Return the ids of all products, in order."""

    async def some_vectors(self, store: str, limit: int) -> list[ImageVectors]:
        """Return the vectors of at most so many images, as if drawn by lot: in the order of their points' ids."""

    async def images_after(
        self, store: str, after: str, limit: int, where: Sequence[Condition] = ()
    ) -> tuple[list[IndexedImage], str]:
        """Return at most so many images that fulfil the conditions, in the order of their points.

        `after` is "" at first, and then what the last answer gave beside the images; "" there is the end. An image that
        is there all the time comes once, whatever is written meanwhile.
        """

    async def search(
        self, store: str, space: Space, vectors: Sequence[Floats], *, where: Sequence[Condition], limit: int
    ) -> list[list[ImageHit]]:
        """Return, for each vector, the most similar of the images that fulfil the conditions, best first."""

    async def search_text(self, store: str, text: str, *, where: Sequence[Condition], limit: int) -> list[TextHit]:
        """Return the products that hold any word of a text, as `texts.folded` gives it, the best first."""


@dataclass(frozen=True)
class View:
    """One look at a thing: the picture as the embedder takes it, or an embedding that is known already."""

    picture: Pixels | None = None
    colour: Floats | None = None  # None where it is not known
    embedding: Floats | None = None


@dataclass(frozen=True)
class Query:
    """One thing to be recognised."""

    views: Sequence[View] = field(default=())
    category_hint: str = ""
