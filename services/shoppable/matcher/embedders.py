"""The models that embed: the one by which catalogues are made now, and those by which older ones were made."""

from collections.abc import Sequence

from shoppable.matcher.catalogs import CatalogRecord, require_embedder
from shoppable.matcher.ports import Embedder
from shoppable.runtime.errors import UnavailableError


class Embedders:
    """Finds the model by which a catalogue was made, so that it can be searched until it is reindexed."""

    def __init__(self, current: Embedder, others: Sequence[Embedder] = ()) -> None:
        self.current = current
        self._others = others

    async def of(self, record: CatalogRecord) -> Embedder:
        """Return the model that embedded a catalogue.

        Raises:
            FailedPreconditionError: It is none of ours: EMBEDDER_MISMATCH.
            UnavailableError: The models cannot be reached.
        """
        running = await self.current.identity()
        if record.embedder == running:
            return self.current
        away: UnavailableError | None = None
        for other in self._others:
            try:
                if await other.identity() == record.embedder:
                    return other
            except UnavailableError as error:  # perhaps it is not this one that is asked for
                away = error
        if away:
            raise away
        require_embedder(record, running)
        raise AssertionError("unreachable: the embedders differ")
