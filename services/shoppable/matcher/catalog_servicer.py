"""ProductCatalogService: requests in, the pipelines' answers out."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from shoppable.matcher import names
from shoppable.matcher.calibrating import MAX_THINGS, Calibrator, Thing
from shoppable.matcher.catalogs import require_embedder
from shoppable.matcher.committing import until_commit
from shoppable.matcher.convert import catalog_to_message, product_to_message
from shoppable.matcher.convert_calibration import (
    learned_to_message,
    read_calibration_config,
    read_views,
    things_of_stream,
)
from shoppable.matcher.convert_duplicates import likeness_to_message
from shoppable.matcher.convert_filters import check_attributes, check_key, read_filter
from shoppable.matcher.convert_snapshots import (
    header_to_message,
    part_to_message,
    parts_of_stream,
    read_header,
    read_restore_config,
)
from shoppable.matcher.convert_stream import read_config, require_all_taken, result_to_message
from shoppable.matcher.duplicates import MIN_SIMILARITY
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.keeping import CatalogKeeper
from shoppable.matcher.lookups import named_catalog
from shoppable.matcher.page_tokens import page_token, read_page_token
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.upserts import Upserter
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_catalog_pb2 as messages
from shoppable.v1 import product_catalog_pb2_grpc

_DEFAULT_PAGE, _MAX_PAGE = 50, 1000
_MAX_DISPLAY_NAME, _MAX_REQUEST_ID = 200, 128


class ProductCatalogServicer(product_catalog_pb2_grpc.ProductCatalogServiceServicer):
    """Answers for catalogues and products."""

    def __init__(
        self,
        keeper: CatalogKeeper,
        upserter: Upserter,
        calibrator: Calibrator,
        embedders: Embedders,
        pictures: PictureReader,
        *,
        max_attribute_keys: int,
    ) -> None:
        self._keeper = keeper
        self._calibrator = calibrator
        self._pictures = pictures
        self._upserter = upserter
        self._embedders = embedders
        self._max_attribute_keys = max_attribute_keys

    async def CreateCatalog(  # noqa: N802  # gRPC's name
        self, request: messages.CreateCatalogRequest, context: Any
    ) -> messages.CreateCatalogResponse:
        """Make an empty catalogue."""
        violations = Violations()
        violations.check(names.is_catalog_id(request.catalog_id), "catalog_id", names.CATALOG_ID_RULE)
        shown = request.catalog.display_name
        rule = f"must be at most {_MAX_DISPLAY_NAME} characters"
        violations.check(len(shown) <= _MAX_DISPLAY_NAME, "catalog.display_name", rule)
        _check_request_id(request.request_id, violations)
        violations.raise_if_any()
        record = await self._keeper.create(request.catalog_id, shown)
        return messages.CreateCatalogResponse(catalog=catalog_to_message(*await self._keeper.counted(record)))

    async def GetCatalog(  # noqa: N802  # gRPC's name
        self, request: messages.GetCatalogRequest, context: Any
    ) -> messages.GetCatalogResponse:
        """One catalogue."""
        record = await named_catalog(self._keeper, request.name, "name", Violations())
        return messages.GetCatalogResponse(catalog=catalog_to_message(*await self._keeper.counted(record)))

    async def ListCatalogs(  # noqa: N802  # gRPC's name
        self, request: messages.ListCatalogsRequest, context: Any
    ) -> messages.ListCatalogsResponse:
        """The catalogues, in order of their names."""
        violations = Violations()
        scope = "catalogs"
        size, after = _page(request, scope, violations)
        violations.raise_if_any()
        page, last_id = await self._keeper.list_catalogs(after=after, limit=size)
        return messages.ListCatalogsResponse(
            catalogs=[catalog_to_message(record, counts) for record, counts in page],
            next_page_token=page_token(scope, last_id) if last_id else "",
        )

    async def DeleteCatalog(  # noqa: N802  # gRPC's name
        self, request: messages.DeleteCatalogRequest, context: Any
    ) -> messages.DeleteCatalogResponse:
        """Delete a catalogue."""
        violations = Violations()
        _check_request_id(request.request_id, violations)
        record = await named_catalog(self._keeper, request.name, "name", violations)
        violations.raise_if_any()
        await self._keeper.delete(record.catalog_id, force=request.force)
        return messages.DeleteCatalogResponse()

    async def UpsertProducts(  # noqa: N802  # gRPC's name
        self, request_iterator: AsyncIterator[messages.UpsertProductsRequest], context: Any
    ) -> AsyncIterator[messages.UpsertProductsResponse]:
        """Add and replace products."""
        requests = aiter(request_iterator)
        config = await read_config(requests)
        if config.replace:
            into = self._keeper.replacing(config.catalog_id, create=config.create_if_missing)
        else:
            into = self._keeper.adding(config.catalog_id, create=config.create_if_missing)
        summary = messages.UpsertSummary()
        async with into as target:
            # Closed before the target is: what is left over must not be written to.
            name = names.catalog_name(config.catalog_id)
            products = until_commit(requests, "upsert", name=name, needed=config.replace)
            async with contextlib.aclosing(self._upserter.run(target, products)) as results:
                async for result in results:
                    outcome = result.outcome.value
                    setattr(summary, outcome, getattr(summary, outcome) + 1)
                    yield messages.UpsertProductsResponse(result=result_to_message(result))
            if config.replace:
                require_all_taken(config.catalog_id, summary)
        summary.revision = (await self._keeper.find(config.catalog_id)).revision
        yield messages.UpsertProductsResponse(summary=summary)

    async def CalibrateCatalog(  # noqa: N802  # gRPC's name
        self, request_iterator: AsyncIterator[messages.CalibrateCatalogRequest], context: Any
    ) -> AsyncIterator[messages.CalibrateCatalogResponse]:
        """Learn from labelled pictures."""
        requests = aiter(request_iterator)
        config = await read_calibration_config(requests)
        record = await named_catalog(self._keeper, config.catalog, "config.catalog", Violations())
        limit = 0 if config.reset else MAX_THINGS
        things: list[Thing] = []
        if not config.reset:
            require_embedder(record, await self._embedders.current.identity())
        labelled = things_of_stream(requests, config, most=limit)
        async for thing, looks in self._calibrator.look(labelled, lambda one: read_views(one, self._pictures)):
            things.append(Thing(thing.row, looks, thing.product_id))
            yield messages.CalibrateCatalogResponse(row=thing.row)
        if config.reset:
            summary = messages.CalibrationSummary(revision=await self._calibrator.reset(record))
        else:
            share = config.not_for_sale_share if config.HasField("not_for_sale_share") else None
            learned = await self._calibrator.calibrate(record, things, not_for_sale_share=share)
            summary = learned_to_message(learned)
        yield messages.CalibrateCatalogResponse(summary=summary)

    async def BackupCatalog(  # noqa: N802  # gRPC's name
        self, request: messages.BackupCatalogRequest, context: Any
    ) -> AsyncIterator[messages.BackupCatalogResponse]:
        """A catalogue, whole."""
        record = await named_catalog(self._keeper, request.name, "name", Violations())
        yield messages.BackupCatalogResponse(record=header_to_message(record))
        async for part in self._keeper.backup(record):
            yield messages.BackupCatalogResponse(record=part_to_message(part))

    async def RestoreCatalog(  # noqa: N802  # gRPC's name
        self, request_iterator: AsyncIterator[messages.RestoreCatalogRequest], context: Any
    ) -> AsyncIterator[messages.RestoreCatalogResponse]:
        """Make a catalogue of a backup."""
        requests = aiter(request_iterator)
        config = await read_restore_config(requests)
        record = await read_header(requests, config.catalog_id)
        await self._embedders.of(record)
        parts = parts_of_stream(requests, record)
        keys = self._max_attribute_keys
        work = self._keeper.restore(record, parts, replace=config.replace, max_attribute_keys=keys)
        async with contextlib.aclosing(work) as told:
            async for progress in told:
                if isinstance(progress, int):
                    yield messages.RestoreCatalogResponse(product_count=progress)
                else:
                    made = catalog_to_message(*await self._keeper.counted(progress))
                    yield messages.RestoreCatalogResponse(catalog=made)

    async def FindDuplicates(  # noqa: N802  # gRPC's name
        self, request: messages.FindDuplicatesRequest, context: Any
    ) -> AsyncIterator[messages.FindDuplicatesResponse]:
        """Pictures of different products that are nearly the same."""
        violations = Violations()
        wanted = read_filter(request.filter, "filter", violations)
        similarity = violations.optional_number(request, "min_similarity", low=0.5, high=1, default=MIN_SIMILARITY)
        record = await named_catalog(self._keeper, request.parent, "parent", violations)
        check_attributes(wanted, record.attribute_keys, "filter", violations)
        if request.differing_in:
            check_key(request.differing_in, record.attribute_keys, "differing_in", violations)
        violations.raise_if_any()
        found = self._keeper.duplicates(record, wanted, min_similarity=similarity, differing_in=request.differing_in)
        async for likeness in found:
            yield likeness_to_message(record.catalog_id, likeness)

    async def GetProduct(  # noqa: N802  # gRPC's name
        self, request: messages.GetProductRequest, context: Any
    ) -> messages.GetProductResponse:
        """One product."""
        catalog_id, product_id = _product_ids(request.name, Violations())
        product = await self._keeper.get_product(catalog_id, product_id)
        return messages.GetProductResponse(product=product_to_message(catalog_id, product))

    async def ListProducts(  # noqa: N802  # gRPC's name
        self, request: messages.ListProductsRequest, context: Any
    ) -> messages.ListProductsResponse:
        """The products of a catalogue, in order of their ids."""
        violations = Violations()
        wanted = read_filter(request.filter, "filter", violations)
        scope = f"{request.parent}\n{wanted.canonical()}"
        size, after = _page(request, scope, violations)
        record = await named_catalog(self._keeper, request.parent, "parent", violations)
        check_attributes(wanted, record.attribute_keys, "filter", violations)
        violations.raise_if_any()
        page = await self._keeper.list_products(record, wanted, after=after, limit=size)
        return messages.ListProductsResponse(
            products=[product_to_message(record.catalog_id, product) for product in page.products],
            next_page_token=page_token(scope, page.last_id) if page.last_id else "",
        )

    async def DeleteProduct(  # noqa: N802  # gRPC's name
        self, request: messages.DeleteProductRequest, context: Any
    ) -> messages.DeleteProductResponse:
        """Delete a product."""
        violations = Violations()
        _check_request_id(request.request_id, violations)
        catalog_id, product_id = _product_ids(request.name, violations)
        return messages.DeleteProductResponse(revision=await self._keeper.delete_product(catalog_id, product_id))


def _product_ids(name: str, violations: Violations) -> tuple[str, str]:
    """Return the ids of a product's catalogue and of the product; raise all violations if there are any."""
    ids = names.parse_product_name(name)
    violations.check(ids is not None, "name", names.PRODUCT_NAME_RULE)
    violations.raise_if_any()
    return ids or ("", "")


def _check_request_id(request_id: str, violations: Violations) -> None:
    rule = f"must be at most {_MAX_REQUEST_ID} characters"
    violations.check(len(request_id) <= _MAX_REQUEST_ID, "request_id", rule)


def _page(
    request: messages.ListProductsRequest | messages.ListCatalogsRequest, scope: str, violations: Violations
) -> tuple[int, str]:
    """Return the size of the page, and the id after which it begins."""
    size = request.page_size or _DEFAULT_PAGE
    violations.check(size <= _MAX_PAGE, "page_size", f"must be in 1..{_MAX_PAGE}, and is {size}")
    after = read_page_token(scope, request.page_token)
    rule = "must be a token that an answer to this request, with this filter, has given"
    violations.check(after is not None, "page_token", rule)
    return size, after or ""
