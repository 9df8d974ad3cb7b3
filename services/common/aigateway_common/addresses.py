"""Which network addresses the gateway may be led to by a URL that somebody else chose; pure.

Callers name media and operators name webhooks, and names lead where their owners please, so an address inside the
network, or one where a cloud hands out credentials, must never be reached by them. Refused is what IANA does not list
as globally reachable (https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry), and
the metadata servers.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_SPECIAL_4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_INTERNAL_4: Final = tuple(
    IPv4Network(block) for block in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
_SPECIAL_6: Final = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_INTERNAL_6: Final = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))
_NAT64: Final = IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset(
    ip_address(address)
    for address in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Where Alibaba, Azure, Oracle, AWS and Google tell machines about themselves, beside link-local 169.254.169.254."""


def is_allowed(text: str, *, internal: bool) -> bool:
    """Whether the address may be connected to.

    Args:
        text: An IPv4 or IPv6 address in the one canonical spelling; any other text is not allowed.
        internal: Loopback and private networks may be, too; link-local, multicast, reserved and metadata never.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _allowed(address, internal=internal)


def _allowed(address: IPv4Address | IPv6Address, *, internal: bool) -> bool:
    if address in _METADATA:
        return False
    if isinstance(address, IPv4Address):
        if internal and any(address in block for block in _INTERNAL_4):
            return True
        return not any(address in block for block in _SPECIAL_4)
    if address.scope_id:
        return False
    if (inner := _inside(address)) is not None:
        return _allowed(inner, internal=internal)
    if internal and any(address in block for block in _INTERNAL_6):
        return True
    return address in _GLOBAL_6 and not any(address in block for block in _SPECIAL_6)


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to `address` end up at: IPv4-mapped, NAT64 (RFC 6052), 6to4 (RFC 3056)."""
    if address in _NAT64:
        return IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address.sixtofour
