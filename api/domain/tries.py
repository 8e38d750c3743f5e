"""How many wrong tokens are answered before a caller is told to wait: by address, and by all of them together."""

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0
PER_ADDRESS = 10
OVERALL = 100
ADDRESSES = 10_000
"""So many are remembered; those heard of longest ago are forgotten first."""
IPV6_PREFIX = 64
"""One customer has so many addresses of its own."""


@dataclass(slots=True)
class Tries:
    """Failed tries of the last minute. The right token is never asked about here: it opens always."""

    _all: deque[float] = field(default_factory=lambda: deque(maxlen=OVERALL))
    _by_address: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def failed(self, address: str, now: float) -> float:
        """Note one at `now`, in seconds of a clock that only goes forward; seconds to wait, 0 while there is room."""
        mine = self._by_address.setdefault(group(address), deque(maxlen=PER_ADDRESS))
        self._by_address.move_to_end(group(address))
        if len(self._by_address) > ADDRESSES:
            self._by_address.popitem(last=False)
        wait = max(_wait(mine, now), _wait(self._all, now))
        if wait == 0:  # what is refused does not count: else a caller that never rests would wait for ever
            mine.append(now)
            self._all.append(now)
        return wait


def _wait(failures: deque[float], now: float) -> float:
    """Until the oldest of a full row is a window old."""
    if len(failures) < (failures.maxlen or 0):
        return 0.0
    return max(0.0, failures[0] + WINDOW_SECONDS - now)


def group(address: str) -> str:
    """Whom an address stands for."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, IPV6_PREFIX), strict=False))
