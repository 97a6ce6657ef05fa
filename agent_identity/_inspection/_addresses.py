"""Host names and addresses that lead into a network of one's own, however they are spelled."""

import ipaddress
from typing import Final

__all__ = ["is_internal", "is_ip"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAMES: Final = ("localhost", "local", "internal", "intranet", "lan", "corp", "home", "home.arpa", "localdomain")
"""Names, and ends of names, that no public name server answers."""

_WILDCARDS: Final = ("nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me", "vcap.me", "lacolhost.com")
"""Public names that resolve to whatever address stands in them, or to one's own machine."""

_RELAY: Final = ipaddress.ip_network("192.88.99.0/24")
# Where an address of version 4 stands in one of version 6: the network, and how many bits follow it.
_EMBEDDED: Final = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (("64:ff9b::/96", 0), ("64:ff9b:1::/48", 0), ("2002::/16", 80), ("::/96", 0))
)


def is_ip(host: str) -> bool:
    """Tell whether a host is an address and no name."""
    return _parsed(host) is not None


def is_internal(host: str) -> bool:
    """Tell whether a host is an address that is not public, or a name that leads to one.

    A name of one label is one's own; what a public name resolves to is out of reach of a look at the text.

    Args:
        host: A name, or an address with or without brackets.
    """
    address = _parsed(host)
    if address is not None:
        return _is_internal_address(address)
    name = host.rstrip(".").lower()
    if "." not in name:
        return True
    return any(name == end or name.endswith(f".{end}") for end in (*_NAMES, *_WILDCARDS))


def _parsed(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _is_internal_address(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not address.is_global or address in _RELAY or address.is_multicast
    if address.ipv4_mapped is not None:
        return _is_internal_address(address.ipv4_mapped)
    if address.teredo is not None:
        return True
    for network, shift in _EMBEDDED:
        if address in network and int(address) > 0xFFFF:
            return _is_internal_address(ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF))
    return not address.is_global or address.is_multicast
