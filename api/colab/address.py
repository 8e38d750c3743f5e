"""Under which address a notebook's user reaches the service: the tunnel, Colab's own proxy, or this machine alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from api.colab import host
from api.colab.client import Api

LOOPBACK = (
    "Only programs on this machine reach it. Set NGROK_AUTH_TOKEN for an address that everybody with the token reaches."
)
TUNNEL_SECONDS = 60.0
POLL_SECONDS = 0.25
PROXY = "Colab's own proxy: only the browser in which this notebook is open reaches it, and programs elsewhere do not."


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    """Without a slash at the end."""
    by: Literal["ngrok", "colab", "loopback"]
    note: str
    """What to know about it, or what is wrong with a better one."""


def address(tunnel: Mapping[str, Any] | None, local_url: str, port: int) -> Address:
    """The best one now; `tunnel` as `/ready` tells of it."""
    if tunnel is not None and tunnel["stand"] == "open":
        return Address(tunnel["url"], "ngrok", "")
    wrong = f" There is no tunnel: {tunnel['detail']}" if tunnel is not None and tunnel["detail"] else ""
    proxied = host.proxy_url(port)
    if proxied is not None:
        return Address(proxied, "colab", PROXY + wrong)
    return Address(local_url, "loopback", LOOPBACK + wrong)


def settled_tunnel(api: Api) -> dict[str, Any] | None:
    """As `/ready` tells of it, once it is open or has failed, or after a while as it is."""
    deadline = time.monotonic() + TUNNEL_SECONDS
    while True:
        found: dict[str, Any] | None = api.get("/ready")["tunnel"]
        if time.monotonic() > deadline or (found is not None and found["stand"] != "starting"):
            return found
        time.sleep(POLL_SECONDS)
