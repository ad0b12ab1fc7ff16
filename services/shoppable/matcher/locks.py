"""Locks by name, which exist for as long as somebody holds or awaits them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable


class NamedLocks:
    """One lock for each name; who comes first gets it first."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, name: Hashable) -> AsyncIterator[None]:
        """Hold the lock of a name while inside."""
        lock, users = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks[name]
            if users == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, users - 1)


class CatalogLocks:
    """What serialises changes: a product's from reading what is stored to its write, a catalogue's writes."""

    def __init__(self) -> None:
        self._locks = NamedLocks()

    def product(self, catalog_id: str, product_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Hold a product. Never taken while a catalogue is held."""
        return self._locks.hold((catalog_id, product_id))

    def catalog(self, catalog_id: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Hold a catalogue's writes."""
        return self._locks.hold(catalog_id)
