"""Finding what a request names, so that everything that is wrong with the request is told at once."""

from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.keeping import CatalogKeeper
from shoppable.matcher.names import CATALOG_NAME_RULE, parse_catalog_name
from shoppable.runtime.errors import NotFoundError
from shoppable.runtime.validation import Violations


async def named_catalog(keeper: CatalogKeeper, name: str, field: str, violations: Violations) -> CatalogRecord:
    """Return the catalogue that `field` names; violations found before do not hide those that need it.

    Raises:
        InvalidRequestError: The name is none; or there is no such catalogue, and something else is wrong too.
        NotFoundError: There is no such catalogue.
    """
    catalog_id = parse_catalog_name(name)
    if catalog_id is None:
        violations.add(field, CATALOG_NAME_RULE)
        violations.raise_if_any()
    try:
        return await keeper.find(catalog_id or "")
    except NotFoundError:
        violations.raise_if_any()
        raise
