"""One catalogue of an embedded index: a Qdrant Edge shard and, beside it, the catalogue's record. All of it blocks.

Order of a write: first the record with the next revision, synced to disk, then the points, which are in Edge's
write-ahead log when `update` returns. A crash between the two skips a revision and loses nothing that was answered.

Edge opens a shard whose files were cut or lost, without the images that were in them. So a shard that was written out
is sealed with the number of its images until it changes again, and is held to it when it is opened.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from shoppable.matcher import colour
from shoppable.matcher.adapters import payload
from shoppable.matcher.adapters.edge_folder import read_json, sync_folder, write_json
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.filters import (
    FIRST_IMAGES,
    PRODUCT,
    AnyOf,
    Condition,
    Contains,
    NoneOf,
    OneOf,
    Within,
    attribute_field,
)
from shoppable.matcher.names import point_id
from shoppable.matcher.ports import (
    Counts,
    Floats,
    ImageHit,
    ImageVectors,
    IndexedImage,
    ProductChange,
    Space,
    StoredImage,
    TextHit,
)
from shoppable.matcher.products import Product

_RECORD, _SHARD, _SEAL = "catalog.json", "shard", "sealed.json"
# From here on a graph is worth its building; below, all vectors are compared, exactly.
_OPTIMIZE_FROM = 20_000  # images that are not in the graph yet
_SCROLL = 10_000
# A graph is built and searched by embeddings of 8 bits a number, in memory. Four times as many as are asked for are
# then compared again, in full.
_QUANTIZATION = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned)
# Of what a filter leaves so many images are all compared, and the graph needs no edges of their own for them. With
# Edge's 16 edges a node, 100 candidates when it is built and 100 when it is searched, one in ten of the ten nearest of
# a million is missed (tests/load/bench_index.py).
_COMPARED = 12_000
_EDGES, _EF_CONSTRUCT = 32, 200
_SEARCH = edge.SearchParams(
    hnsw_ef=1024,
    quantization=edge.QuantizationSearchParams(rescore=True, oversampling=4.0),
)
_SEALED_IMAGES = "images"


class EdgeCatalog:
    """An open catalogue."""

    def __init__(self, folder: Path, record: CatalogRecord, shard: edge.EdgeShard, *, placed: bool = True) -> None:
        self._folder = folder
        self._placed = placed  # whether the folder's record names its shard; else a seal would be another's
        self._shard = shard
        self.record = record  # as readers see it
        self._written = record  # as it is on disk: a revision ahead while a write is in work
        self._sealed = (folder / _SEAL).exists()

    @classmethod
    def create(cls, folder: Path, record: CatalogRecord) -> "EdgeCatalog":
        """Make an empty catalogue in a folder that does not exist. It is made under another name, and exists whole."""
        making = folder.with_name(f".new-{folder.name}")
        shutil.rmtree(making, ignore_errors=True)  # of a creation that failed half way
        making.mkdir(parents=True)
        shard = _new_shard(making / _shard_of(record), record)
        shard.close()
        write_json(making / _RECORD, record.to_json())
        making.rename(folder)
        sync_folder(folder.parent)
        return cls(folder, record, edge.EdgeShard.load(str(folder / _shard_of(record))))

    @classmethod
    def stage(cls, folder: Path, record: CatalogRecord) -> "EdgeCatalog":
        """Make an empty store beside that of a catalogue that exists; it is in nobody's way until it is promoted."""
        return cls(folder, record, _new_shard(folder / _shard_of(record), record), placed=False)

    @classmethod
    def open(cls, folder: Path) -> "EdgeCatalog":
        """Open a catalogue, and bring its search graph up to date if much is missing from it.

        That is done here only: Edge holds Python's lock meanwhile, seconds for tens of thousands of images.

        Raises:
            RuntimeError: It cannot be opened; the text names the folder.
        """
        try:
            with panics_as_errors():
                record = CatalogRecord.from_json(read_json(folder / _RECORD))
                for other in set(folder.glob(f"{_SHARD}*")) - {folder / _shard_of(record)}:
                    shutil.rmtree(other)  # what was to take its place, or gave it up, when a process ended
                shard = edge.EdgeShard.load(str(folder / _shard_of(record)))
                _check_seal(folder / _SEAL, shard)
                info = shard.info()
                if info.points_count - info.indexed_vectors_count >= _OPTIMIZE_FROM:
                    shard.optimize()
        except Exception as error:  # Edge raises bare Exception
            raise RuntimeError(
                f"the catalogue in {folder} cannot be opened: {error}; what to do: the matcher's README, Damaged files"
            ) from error
        return cls(folder, record, shard)

    @staticmethod
    def is_pending(folder: Path) -> bool:
        """Tell whether a folder holds a catalogue that was being made beside its name, and never got it."""
        try:
            return CatalogRecord.from_json(read_json(folder / _RECORD)).pending
        except (OSError, ValueError):
            return False  # opening it tells what is wrong

    def promote(self, record: CatalogRecord, replaced: "EdgeCatalog | None") -> None:
        """Make this the catalogue's store, durably, in the place of another's."""
        self._shard.flush()
        if replaced:
            replaced._unseal()
            replaced._placed = False
        write_json(self._folder / _RECORD, record.to_json())
        self.record = self._written = record
        self._placed, self._sealed = True, False

    def discard(self) -> None:
        """Delete the store, which is no catalogue's."""
        self._shard.close()
        shutil.rmtree(self._folder / _shard_of(self.record), ignore_errors=True)

    def close(self) -> None:
        """Write everything out and close."""
        self.flush()
        self._shard.close()

    def delete(self) -> None:
        """Delete all of it."""
        gone = self._folder.with_name(f".deleted-{self._folder.name}")
        shutil.rmtree(gone, ignore_errors=True)
        self._folder.rename(gone)  # from here on it does not exist, whatever happens
        sync_folder(gone.parent)
        self._shard.close()
        shutil.rmtree(gone, ignore_errors=True)

    def flush(self) -> None:
        """Write everything out: guards against loss of power, where the log guards against a crash."""
        self._shard.flush()
        if self._placed and not self._sealed:
            write_json(self._folder / _SEAL, {_SEALED_IMAGES: _images_in(self._shard)})
            self._sealed = True

    def _unseal(self) -> None:
        """Take the seal away, durably, before anything changes."""
        if self._sealed:
            (self._folder / _SEAL).unlink(missing_ok=True)
            sync_folder(self._folder)
            self._sealed = False

    def advance(self, *, attribute_keys: Set[str], updated: datetime, fit: str | None = None) -> CatalogRecord:
        """Take the next revision durably; see VectorIndex."""
        self._unseal()
        record = self._written.advanced(attribute_keys=frozenset(attribute_keys), updated=updated, fit=fit)
        self.index_attributes(set(record.attribute_keys) - set(self._written.attribute_keys))
        write_json(self._folder / _RECORD, record.to_json())
        self._written = record
        return record

    def index_attributes(self, keys: Set[str]) -> None:
        """Let filters ask for these attributes."""
        for key in sorted(keys):
            self._shard.update(_attribute_index(key))

    def write(self, changes: Sequence[ProductChange]) -> None:
        """Store products, and let readers see the revision that was taken."""
        self._unseal()
        fresh: list[edge.Point] = []
        kept: list[tuple[str, dict[str, Any]]] = []
        stale: list[Any] = []
        for change in changes:
            product_id = change.product.product_id
            stale.extend(point_id(product_id, image_id) for image_id in change.stale_image_ids)
            for point in change.points:
                identifier, values = point_id(product_id, point.image.image_id), payload.payload_of(change, point)
                if point.vectors is None:
                    kept.append((identifier, values))
                else:
                    vectors = {
                        Space.EMBEDDING.value: point.vectors.embedding.tolist(),
                        Space.COLOUR.value: point.vectors.colour.tolist(),
                    }
                    fresh.append(edge.Point(identifier, vectors, values))
        if fresh:
            self._shard.update(edge.UpdateOperation.upsert_points(fresh))
        for identifier, values in kept:
            self._shard.update(edge.UpdateOperation.overwrite_payload([identifier], values))
        if stale:
            self._shard.update(edge.UpdateOperation.delete_points(stale))
        self.record = self._written

    def delete_product(self, product_id: str) -> None:
        """Delete a product's images, and let readers see the revision that was taken."""
        self._unseal()
        wanted = (AnyOf(PRODUCT, (product_id,)),)
        self._shard.update(edge.UpdateOperation.delete_points_by_filter(edge.Filter(must=_conditions(wanted))))
        self.record = self._written

    def count(self) -> Counts:
        """Count products and images."""
        products = self._shard.count(edge.CountRequest(exact=True, filter=_filter((FIRST_IMAGES,))))
        return Counts(products=products, images=_images_in(self._shard))

    def stored_images(self, product_id: str) -> list[StoredImage]:
        """Return what is stored of a product."""
        records = self._scroll((AnyOf(PRODUCT, (product_id,)),), payload.STORED_FIELDS)
        return [payload.stored_image_of(record.payload) for record in records]

    def stored_products(self, product_ids: Sequence[str]) -> list[ProductChange]:
        """Return all that is stored of some products, vectors too."""
        wanted = (AnyOf(PRODUCT, tuple(product_ids)),)
        records = self._scroll(wanted, payload.WHOLE_FIELDS, with_vectors=True)
        return payload.changes_of((record.payload or {}, record.vector) for record in records)

    def get_products(self, product_ids: Sequence[str], where: Sequence[Condition]) -> dict[str, Product]:
        """Return those products that exist and fulfil the conditions."""
        wanted = (FIRST_IMAGES, AnyOf(PRODUCT, tuple(product_ids)), *where)
        products = (payload.product_of(record.payload) for record in self._scroll(wanted, payload.PRODUCT_FIELDS))
        return {product.product_id: product for product in products}

    def product_ids(self) -> list[str]:
        """Return all products' ids, in order."""
        return sorted((record.payload or {})[PRODUCT] for record in self._scroll((FIRST_IMAGES,), (PRODUCT,)))

    def some_vectors(self, limit: int) -> list[ImageVectors]:
        """Return the vectors of some images."""
        request = edge.ScrollRequest(limit=limit, with_payload=False, with_vector=True)
        return [payload.vectors_of(record.vector) for record in self._shard.scroll(request)[0]]

    def images_after(self, after: str, limit: int, where: Sequence[Condition]) -> tuple[list[IndexedImage], str]:
        """Return images in the order of their points; see VectorIndex."""
        request = edge.ScrollRequest(
            offset=after or None,
            limit=limit,
            filter=_filter(where),
            with_payload=list(payload.IMAGE_FIELDS),
            with_vector=True,
        )
        records, following = self._shard.scroll(request)
        found = [payload.indexed_image_of(record.payload, record.vector) for record in records]
        return found, str(following or "")

    def search(
        self, space: Space, vectors: Sequence[Floats], *, where: Sequence[Condition], limit: int
    ) -> list[list[ImageHit]]:
        """Return the most similar images for each vector."""
        requests = [
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(vector.tolist(), using=space.value),
                filter=_filter(where),
                with_payload=list(payload.HIT_FIELDS),
                params=_SEARCH,
            )
            for vector in vectors
        ]
        found = self._shard.query_batch(edge.QueryBatchRequest(requests))
        return [[payload.hit_of(point.payload, point.score) for point in points] for points in found]

    def search_text(self, text: str, *, where: Sequence[Condition], limit: int) -> list[TextHit]:
        """Return the products that hold any word of a text, the best first."""
        request = edge.QueryRequest(
            limit=limit, query=edge.TextQuery(payload.TEXT, text), filter=_filter(where), with_payload=[PRODUCT]
        )
        return [payload.text_hit_of(point.payload, point.score) for point in self._shard.query(request)]

    def _scroll(
        self, where: Sequence[Condition], fields: Sequence[str], *, with_vectors: bool = False
    ) -> list[edge.Record]:
        found: list[edge.Record] = []
        offset = None
        while True:
            records, offset = self._shard.scroll(
                edge.ScrollRequest(
                    offset=offset,
                    limit=_SCROLL,
                    filter=_filter(where),
                    with_payload=list(fields),
                    with_vector=with_vectors,
                )
            )
            found.extend(records)
            if offset is None:
                return found


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise what Edge panics of as an error like its others: a panic of Rust is no Exception to Python."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # no public name leads to it
            raise
        raise RuntimeError(f"the engine panicked: {error}") from error


def _new_shard(path: Path, record: CatalogRecord) -> edge.EdgeShard:
    embedding_kb = record.embedder.size * 4 / 1024
    graph = edge.HnswIndexConfig(_EDGES, _EF_CONSTRUCT, full_scan_threshold=round(_COMPARED * embedding_kb))
    config = edge.EdgeConfig(
        vectors={
            Space.EMBEDDING.value: edge.EdgeVectorParams(
                size=record.embedder.size,
                distance=edge.Distance.Cosine,
                hnsw_config=graph,
                quantization_config=_QUANTIZATION,
            ),
            Space.COLOUR.value: edge.EdgeVectorParams(size=colour.SIZE, distance=edge.Distance.Cosine),
        }
    )
    shard = edge.EdgeShard.create(str(path), config)
    for fields, kind in (
        (payload.KEYWORDS, edge.PayloadSchemaType.Keyword),
        (payload.FLOATS, edge.PayloadSchemaType.Float),
        (payload.INTEGERS, edge.PayloadSchemaType.Integer),
    ):
        for field in fields:
            shard.update(edge.UpdateOperation.create_field_index(field, kind))
    words = edge.TextIndexParams(scoring=True)
    shard.update(edge.UpdateOperation.create_field_index(payload.TEXT, words))
    for key in record.attribute_keys:
        shard.update(_attribute_index(key))
    shard.flush()
    return shard


def _attribute_index(key: str) -> edge.UpdateOperation:
    return edge.UpdateOperation.create_field_index(attribute_field(key), edge.PayloadSchemaType.Keyword)


def _shard_of(record: CatalogRecord) -> str:
    return f"{_SHARD}.{record.generation}" if record.generation else _SHARD


def _images_in(shard: edge.EdgeShard) -> int:
    return shard.count(edge.CountRequest(exact=True))


def _check_seal(seal: Path, shard: edge.EdgeShard) -> None:
    if not seal.exists():
        return
    sealed, found = read_json(seal)[_SEALED_IMAGES], _images_in(shard)
    if found != sealed:
        raise ValueError(f"its shard holds {found} images, and held {sealed} when it was written out")


def _filter(where: Sequence[Condition]) -> edge.Filter | None:
    return edge.Filter(must=_conditions(where)) if where else None


def _conditions(where: Sequence[Condition]) -> list[Any]:
    return [_condition(condition) for condition in where]


def _condition(condition: Condition) -> Any:
    match condition:
        case AnyOf():
            return edge.FieldCondition(condition.field, match=edge.MatchAny(condition.listed()))
        case Within():
            return edge.FieldCondition(condition.field, range=edge.RangeFloat(gte=condition.low, lte=condition.high))
        case Contains():
            return edge.FieldCondition(condition.field, match=edge.MatchSubstring(condition.text))
        case OneOf():
            return edge.Filter(should=[edge.Filter(must=_conditions(group)) for group in condition.groups])
        case NoneOf():
            return edge.Filter(must_not=[edge.Filter(must=_conditions(group)) for group in condition.groups])
