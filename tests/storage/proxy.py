"""A proxy between the S3 client and a real S3 server, to do what the server will not do on request."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
from aiohttp import web
from yarl import URL

ACCESS_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def access_denied() -> web.Response:
    return web.Response(status=403, body=ACCESS_DENIED, content_type="application/xml")


class S3Proxy:
    """Passes requests on as they are, signatures included, unless a hook answers or changes the answer."""

    def __init__(self, target: str, session: aiohttp.ClientSession) -> None:
        self.requests: list[web.Request] = []
        self.answer: Callable[[web.Request], web.Response | None] = lambda request: None
        self.change: Callable[[web.Request, web.Response], web.Response] = lambda request, response: response
        self.alter: Callable[[web.Request, bytes], bytes] = lambda request, body: body
        self.cut_after: Callable[[web.Request], int | None] = lambda request: None
        self._target = target
        self._session = session

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = self.alter(request, await request.read())
        answered = self.answer(request)
        if answered is not None:
            return answered
        url = URL(self._target + request.raw_path, encoded=True)
        headers = {k: v for k, v in request.headers.items() if k != "Expect"}
        async with self._session.request(request.method, url, headers=headers, data=BytesIO(body)) as got:
            headers = {k: v for k, v in got.headers.items() if k not in ("Transfer-Encoding", "Content-Encoding")}
            response = self.change(request, web.Response(status=got.status, headers=headers, body=await got.read()))
        cut = self.cut_after(request)
        return response if cut is None else await self._cut(request, response, cut)

    async def _cut(self, request: web.Request, response: web.Response, after: int) -> web.StreamResponse:
        """Send the head and the first bytes of `response`, then drop the connection."""
        assert isinstance(response.body, bytes)
        assert request.transport is not None
        cut = web.StreamResponse(status=response.status, headers=response.headers)
        cut.content_length = len(response.body)
        await cut.prepare(request)
        await cut.write(response.body[:after])
        request.transport.close()
        return cut


@asynccontextmanager
async def s3_proxy(target: str) -> AsyncIterator[tuple[S3Proxy, str]]:
    """A running proxy to the server at `target`, and its own address."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        proxy = S3Proxy(target, session)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            yield proxy, f"http://{host}:{port}"
        finally:
            await runner.cleanup()
