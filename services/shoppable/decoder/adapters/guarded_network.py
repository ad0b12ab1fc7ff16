"""Connections to such addresses only as the operator allows, whatever a name is said to mean.

The name is resolved here, every address is checked, and the connection goes to the very address that was checked; so
a name that changes its meaning between check and connection gains nothing. TLS still asks for the name's certificate.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import httpcore

from shoppable.runtime.addresses import hides_ipv4, is_public
from shoppable.runtime.errors import PermissionDeniedError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, as the system finds them.

    Raises:
        OSError, UnicodeError: There are none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


@dataclass(frozen=True)
class AddressRules:
    """Which addresses may be connected to: public ones, and those of the operator's networks."""

    networks: Sequence[Network] = ()

    def allow(self, address: str) -> bool:
        """Tell whether this address may be connected to."""
        try:
            parsed = ipaddress.ip_address(address.split("%")[0])
        except ValueError:
            return False
        if any(parsed in network for network in self.networks):
            return True
        # Where a translator leads is its operator's affair, and so is whether to trust it.
        return is_public(address) and not hides_ipv4(address)


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """How httpcore connects."""

    def __init__(self, rules: AddressRules, resolver: Resolver = resolve) -> None:
        self._rules = rules
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # as httpcore calls it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to an address of the host.

        Raises:
            PermissionDeniedError: One of its addresses is not allowed; then none is connected to.
            httpcore.ConnectError: None can be reached.
        """
        try:
            addresses = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name cannot be resolved") from error
        if not addresses:
            raise httpcore.ConnectError("the name has no address")
        if not all(self._rules.allow(address) for address in addresses):
            # Which address that is, is nobody's business.
            raise PermissionDeniedError(
                "the URI leads to an address that this decoder's operator did not allow", reason="ADDRESS_NOT_ALLOWED"
            )
        failure: Exception = httpcore.ConnectError("no address was tried")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # as httpcore calls it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: there is no such source."""
        raise httpcore.ConnectError("no socket of this host is connected to")

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts."""
        await self._network.sleep(seconds)
