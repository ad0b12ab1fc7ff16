"""Which IP addresses belong to the open internet, and which are somebody's inside."""

import ipaddress
from collections.abc import Sequence

_TRANSLATED = (
    ipaddress.IPv6Network("64:ff9b::/96"),  # RFC 6052: what translators between the two make of an IPv4 address
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # RFC 8215: the same, within a network
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, long out of use
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet; also looks into IPv6 addresses that hide an IPv4 one."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    inner = _hidden(parsed)
    if inner:
        return all(is_public(str(hidden)) for hidden in inner)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_UNICAST:
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def hides_ipv4(address: str) -> bool:
    """Whether an IP address is an IPv6 one behind which there is an IPv4 one."""
    return bool(_hidden(ipaddress.ip_address(address.split("%")[0])))


def _hidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Sequence[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    translated = any(address in network for network in _TRANSLATED)
    found = (
        address.ipv4_mapped,
        address.sixtofour,
        *(address.teredo or ()),
        ipaddress.IPv4Address(address.packed[-4:]) if translated else None,
    )
    return [inner for inner in found if inner is not None]
