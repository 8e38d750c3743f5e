"""Sends one message to a receiver that a client named: only where it may go, never on by a redirect, never for long."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from api.domain.progress import cleaned
from api.errors import MasukaError

SEND_SECONDS = 10.0
"""For all of it: the look-up of the name, the connection, the message and the answer."""
CONNECT_SECONDS = 4.0
"""For each address of the host."""
ANSWER_BYTES = 1000
"""So much of an answer is read; what follows is never taken in."""
LOOK_UPS = 8
"""Names that are looked up at once: a server of names that hangs holds up nothing else of this process."""


class UndeliveredError(MasukaError):
    """The receiver gave no answer."""

    title = "Webhook not delivered"
    default_code = "webhook_unreachable"


@dataclass(frozen=True, slots=True)
class Answer:
    status_code: int
    text: str
    """Its beginning."""


class Courier:
    def __init__(self, http: httpx.AsyncClient, resolvers: ThreadPoolExecutor) -> None:
        self._http = http
        self._resolvers = resolvers

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, may_reach: Callable[[str], bool]
    ) -> Answer:
        """Send it to the first address of the URL's host that takes a connection, of those that `may_reach` allows.

        Raises UndeliveredError: `webhook_refused` when none is allowed, which another try will not change, else
        `webhook_unreachable`, `webhook_timeout` or `webhook_tls_failed`. No message repeats the URL.
        """
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await self._post(httpx.URL(url), headers, body, may_reach)
        except TimeoutError as exc:
            raise UndeliveredError(f"There was no answer within {SEND_SECONDS:g} s.", code="webhook_timeout") from exc
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise UndeliveredError("This is no URL that can be sent to.", code="webhook_refused") from exc
        except (httpx.HTTPError, OSError) as exc:
            raise _undelivered(exc) from exc

    async def _post(
        self, url: httpx.URL, headers: Mapping[str, str], body: bytes, may_reach: Callable[[str], bool]
    ) -> Answer:
        allowed = [address for address in await self._look_up(url) if may_reach(address)]
        if not allowed:
            raise UndeliveredError(
                "The receiver's address is a private one.",
                code="webhook_refused",
                hint="Set MASUKA_WEBHOOK_URL to it, or MASUKA_WEBHOOK_PRIVATE=true.",
            )
        *others, last = allowed
        for address in others:
            try:
                return await self._send(url, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send(url, last, headers, body)

    async def _look_up(self, url: httpx.URL) -> list[str]:
        """The addresses of its host. Raises UndeliveredError when the name is not known."""
        host, port = url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except socket.gaierror as exc:
            raise UndeliveredError("The receiver's name is not known.") from exc
        return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))

    async def _send(self, url: httpx.URL, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """To this very address: looked up once more, the name could lead elsewhere. TLS still wants the name's."""
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            headers={**headers, "Host": url.netloc.decode(), "Accept-Encoding": "identity"},
            content=body,
            extensions={"sni_hostname": url.raw_host.decode()},
        )
        response = await self._http.send(request, stream=True)
        try:
            return Answer(response.status_code, await _beginning(response))
        finally:
            await response.aclose()


async def _beginning(response: httpx.Response) -> str:
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) >= ANSWER_BYTES:
            break
    return cleaned(read[:ANSWER_BYTES].decode(errors="replace"))


def _undelivered(exc: Exception) -> UndeliveredError:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return UndeliveredError(f"TLS failed: {cause.reason or type(cause).__name__}.", code="webhook_tls_failed")
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, httpx.TimeoutException):
        return UndeliveredError("The receiver does not answer.", code="webhook_timeout")
    if isinstance(exc, httpx.ConnectError):
        return UndeliveredError("The receiver takes no connection.")
    return UndeliveredError(f"The connection broke ({type(exc).__name__}).")


@asynccontextmanager
async def open_courier() -> AsyncIterator[Courier]:
    """Connections are made for one message each: one to the same address may have been verified for another name."""
    resolvers = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="resolver")
    limits, timeout = httpx.Limits(max_keepalive_connections=0), httpx.Timeout(SEND_SECONDS, connect=CONNECT_SECONDS)
    try:
        async with httpx.AsyncClient(
            verify=httpx.create_ssl_context(),  # also knows SSL_CERT_FILE; of the environment it takes nothing else
            trust_env=False,
            limits=limits,
            timeout=timeout,
            follow_redirects=False,
        ) as http:
            yield Courier(http, resolvers)
    finally:
        resolvers.shutdown(wait=False, cancel_futures=True)
