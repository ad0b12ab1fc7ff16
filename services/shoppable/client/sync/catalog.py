# Derived from catalog.py of the async client by `make gen`; never edited.
"""Client of the product catalogue."""

from collections.abc import Iterable, Iterator

import grpc

from shoppable.client.errors import readable, translated
from shoppable.client.sync.streams import ResponseStream, call_stream
from shoppable.v1 import product_catalog_pb2 as pb
from shoppable.v1 import product_catalog_pb2_grpc


class CatalogClient:
    """Calls a ProductCatalogService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = product_catalog_pb2_grpc.ProductCatalogServiceStub(channel)

    def create_catalog(self, catalog_id: str, *, display_name: str = "", timeout_s: float | None = None) -> pb.Catalog:
        """Make an empty catalogue."""
        request = pb.CreateCatalogRequest(catalog_id=catalog_id, catalog=pb.Catalog(display_name=display_name))
        with translated():
            return readable(self._stub.CreateCatalog(request, timeout=timeout_s)).catalog

    def get_catalog(self, name: str, *, timeout_s: float | None = None) -> pb.Catalog:
        """Return a catalogue."""
        with translated():
            return readable(self._stub.GetCatalog(pb.GetCatalogRequest(name=name), timeout=timeout_s)).catalog

    def list_catalogs(self, *, page_size: int = 0, timeout_s: float | None = None) -> Iterator[pb.Catalog]:
        """Yield all catalogues, page by page."""
        request = pb.ListCatalogsRequest(page_size=page_size)
        while True:
            with translated():
                page = readable(self._stub.ListCatalogs(request, timeout=timeout_s))
            for catalog in page.catalogs:
                yield catalog
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete_catalog(self, name: str, *, force: bool = False, timeout_s: float | None = None) -> None:
        """Delete a catalogue; with `force` also one that holds products."""
        with translated():
            self._stub.DeleteCatalog(pb.DeleteCatalogRequest(name=name, force=force), timeout=timeout_s)

    def upsert_products(
        self,
        config: pb.UpsertProductsConfig,
        upserts: Iterable[pb.ProductUpsert],
        *,
        timeout_s: float | None = None,
    ) -> ResponseStream[pb.UpsertProductsResponse]:
        """Add and replace products as they come; yields a result for each, and a summary at the end."""

        def requests() -> Iterator[pb.UpsertProductsRequest]:
            yield pb.UpsertProductsRequest(config=config)
            count = 0
            for upsert in upserts:
                yield pb.UpsertProductsRequest(upsert=upsert)
                count += 1
            yield pb.UpsertProductsRequest(commit=pb.StreamCommit(count=count))

        return call_stream(self._stub.UpsertProducts, requests(), timeout_s=timeout_s)

    def get_product(self, name: str, *, timeout_s: float | None = None) -> pb.Product:
        """Return a product."""
        with translated():
            return readable(self._stub.GetProduct(pb.GetProductRequest(name=name), timeout=timeout_s)).product

    def list_products(
        self,
        parent: str,
        *,
        product_filter: pb.ProductFilter | None = None,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[pb.Product]:
        """Yield the products of a catalogue, page by page."""
        request = pb.ListProductsRequest(parent=parent, filter=product_filter, page_size=page_size)
        while True:
            with translated():
                page = readable(self._stub.ListProducts(request, timeout=timeout_s))
            for product in page.products:
                yield product
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def find_duplicates(
        self, request: pb.FindDuplicatesRequest, *, timeout_s: float | None = None
    ) -> Iterator[pb.FindDuplicatesResponse]:
        """Yield pictures of different products that are nearly the same, as they are found."""
        with translated():
            for found in self._stub.FindDuplicates(request, timeout=timeout_s):
                yield found

    def delete_product(self, name: str, *, timeout_s: float | None = None) -> int:
        """Delete a product and return the catalogue's revision without it."""
        with translated():
            return readable(self._stub.DeleteProduct(pb.DeleteProductRequest(name=name), timeout=timeout_s)).revision

    def calibrate_catalog(
        self,
        config: pb.CalibrationConfig,
        things: Iterable[pb.LabelledThing],
        *,
        timeout_s: float | None = None,
    ) -> ResponseStream[pb.CalibrateCatalogResponse]:
        """Learn from labelled pictures; yields the row of each thing that was read, and a summary at the end."""

        def requests() -> Iterator[pb.CalibrateCatalogRequest]:
            yield pb.CalibrateCatalogRequest(config=config)
            count = 0
            for thing in things:
                yield pb.CalibrateCatalogRequest(thing=thing)
                count += 1
            yield pb.CalibrateCatalogRequest(commit=pb.StreamCommit(count=count))

        return call_stream(self._stub.CalibrateCatalog, requests(), timeout_s=timeout_s)

    def backup_catalog(self, name: str, *, timeout_s: float | None = None) -> Iterator[pb.SnapshotRecord]:
        """Yield the parts of a backup of a catalogue."""
        with translated():
            for response in self._stub.BackupCatalog(pb.BackupCatalogRequest(name=name), timeout=timeout_s):
                yield response.record

    def restore_catalog(
        self,
        config: pb.RestoreCatalogConfig,
        records: Iterable[pb.SnapshotRecord],
        *,
        timeout_s: float | None = None,
    ) -> ResponseStream[pb.RestoreCatalogResponse]:
        """Make a catalogue of a backup's parts; yields how far it is, and the catalogue at the end."""

        def requests() -> Iterator[pb.RestoreCatalogRequest]:
            yield pb.RestoreCatalogRequest(config=config)
            for record in records:
                yield pb.RestoreCatalogRequest(record=record)

        return call_stream(self._stub.RestoreCatalog, requests(), timeout_s=timeout_s)
