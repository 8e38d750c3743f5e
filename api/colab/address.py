"""Under which address a notebook's user reaches the service: the tunnel, Colab's own proxy, or this machine alone."""

import importlib
from dataclasses import dataclass
from typing import Literal

from api.bind import base_url
from api.settings import Settings
from api.tunnel import state
from api.tunnel.state import Stand

LOOPBACK = (
    "Only programs on this machine reach it. Set NGROK_AUTH_TOKEN for an address that everybody with the token reaches."
)
PROXY = "Colab's own proxy: only the browser in which this notebook is open reaches it, and programs elsewhere do not."


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    """Without a slash at the end."""
    by: Literal["ngrok", "colab", "loopback"]
    note: str
    """What to know about it, or what is wrong with a better one."""


def address(settings: Settings, port: int) -> Address:
    """The best one now."""
    tunnel = state.read(settings)
    if tunnel is not None and tunnel.stand is Stand.OPEN:
        return Address(tunnel.url, "ngrok", "")
    wrong = f" There is no tunnel: {tunnel.detail}" if tunnel is not None and tunnel.detail else ""
    proxied = proxy_url(port)
    if proxied is not None:
        return Address(proxied, "colab", PROXY + wrong)
    return Address(base_url(settings.masuka_host, port), "loopback", LOOPBACK + wrong)


def proxy_url(port: int) -> str | None:
    """Colab's own address of a port of its machine; None elsewhere, or when the notebook is not open in a browser.

    The service meets it as `Host` or as `Origin`: name both in MASUKA_ALLOWED_HOSTS and MASUKA_CORS_ORIGINS.
    """
    try:
        output = importlib.import_module("google.colab.output")
    except ImportError:
        return None
    found = output.eval_js(f"google.colab.kernel.proxyPort({int(port)})", timeout_sec=10)
    return str(found).rstrip("/") if found else None
