"""Which network addresses a URL that a client names may lead us to."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is given out to the internet."""
NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6-only networks reach the IPv4 address in the last four bytes by it."""


def may_reach(address: str, *, private: bool) -> bool:
    """Whether requests may go to this IP address; `private`: the owner has allowed those of his own networks.

    Link-local ones never: behind them clouds keep what a machine may know, and its keys.
    """
    ip = _meant(address)
    public = ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in UNICAST)
    return public or (private and not (ip.is_link_local or ip.is_multicast))


def is_literal(host: str) -> bool:
    """Whether a URL's host is an address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _meant(address: str) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it stands for one."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return ip
    if ip in NAT64:
        return IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped or ip.sixtofour or ip
