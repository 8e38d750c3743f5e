"""Where the service listens, and where a client on this machine finds it."""

import socket

from api.errors import ConfigError
from api.settings import is_loopback


def base_url(host: str, port: int) -> str:
    """Where a client on this machine reaches a service bound to `host`."""
    near = reachable(host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def reachable(host: str) -> str:
    """The address that leads from this machine to a service bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free(host: str, port: int) -> None:
    """Raises ConfigError `port_in_use`, or `host_invalid` for an address that this machine does not have."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            code = "port_in_use" if is_loopback(host) or "in use" in str(exc) else "host_invalid"
            raise ConfigError(
                f"Cannot listen on {host}:{port}: {exc.strerror}.",
                code=code,
                value=f"{host}:{port}",
                hint="Choose another port with --port or MASUKA_PORT.",
            ) from exc


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
