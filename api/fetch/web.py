"""Asks servers of the open web, by addresses that were checked: a name is resolved once, and what was checked is used.

httpx would resolve a name again when it connects, and then a name server could answer otherwise (DNS rebinding). So the
request goes to the address itself, and TLS proves that the server is the one that the URL names.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from api.domain.addresses import may_reach
from api.domain.web_address import HTTPS_PORT, parse_url, shown_url
from api.errors import JobError

MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
CONNECTIONS = 8

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a host; raises OSError when it has none."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A token that one host alone may see, whichever others it redirects to."""

    host: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer, its body unread, and the headers of those that led to it, by host."""

    response: httpx.Response
    passed: tuple[tuple[str, httpx.Headers], ...] = ()


class Web:
    """A client that reaches nothing but public servers."""

    def __init__(self, client: httpx.AsyncClient, resolve: Resolve, pause_seconds: float = 2.0) -> None:
        """`pause_seconds`: before the first further try of what was cut off."""
        self._client = client
        self._resolve = resolve
        self.pause_seconds = pause_seconds

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str] | None = None, secret: Secret | None = None
    ) -> AsyncIterator[Answer]:
        """Redirects are followed, each one judged like the URL itself.

        Raises InputError `url_not_allowed`, JobError `address_not_allowed` or `too_many_redirects`, and httpx's
        TransportError.
        """
        target = parse_url(url)
        passed: list[tuple[str, httpx.Headers]] = []
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._ask(target, headers or {}, secret)
            try:
                if not response.has_redirect_location:
                    yield Answer(response, tuple(passed))
                    return
            finally:
                await response.aclose()
            passed.append((target.host, response.headers))
            target = parse_url(str(target.join(response.headers["Location"])))
        raise JobError(
            f"{shown_url(url)} redirects more than {MAX_REDIRECTS} times.",
            code="too_many_redirects",
            value=shown_url(url),
            hint="Give the address of the file itself.",
        )

    async def _ask(self, url: httpx.URL, headers: Mapping[str, str], secret: Secret | None) -> httpx.Response:
        """By the first of the host's addresses that lets us connect."""
        name = url.raw_host.decode("ascii")
        own = {"Host": name, "User-Agent": "masuka", "Accept-Encoding": "identity", **headers}
        if secret is not None and secret.token and secret.host == url.host:
            own["Authorization"] = f"Bearer {secret.token}"
        failure: httpx.TransportError = httpx.ConnectError(f"{url.host} has no address")
        for address in await self._public_addresses(url):
            request = self._client.build_request(
                "GET", url.copy_with(host=address), headers=own, extensions={"sni_hostname": name}
            )
            try:
                return await self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                failure = exc
        raise failure

    async def _public_addresses(self, url: httpx.URL) -> Sequence[str]:
        """All of the host, of which every single one must be public."""
        try:
            addresses = await asyncio.wait_for(self._resolve(url.raw_host.decode("ascii")), CONNECT_SECONDS)
        except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError; a label may be too long
            raise httpx.ConnectError(f"the name {url.host} is not found") from exc
        inside = [address for address in addresses if not may_reach(address, private=False)]
        if inside:
            raise JobError(
                f"{url.host} is at {inside[0]}, which is not an address of the public internet.",
                code="address_not_allowed",
                value=shown_url(url),
                hint="Give a URL of a public server, or upload the file.",
            )
        return addresses


async def resolve(host: str) -> Sequence[str]:
    """By the system's own means, without a scope or a port."""
    found = await asyncio.get_running_loop().getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


@asynccontextmanager
async def open_web() -> AsyncIterator[Web]:
    """No proxy of the environment is asked: it would resolve names by itself, as it likes."""
    # Kept alive, a connection would serve other names at the same address whose certificate nobody has checked.
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0)
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(limits=limits), timeout=timeout, trust_env=False
    ) as client:
        yield Web(client, resolve)
