"""A receiver of webhooks: a real HTTP server that keeps what it gets, and answers as it is told."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0" * 4


@dataclass(frozen=True)
class Received:
    target: str
    headers: dict[str, str]
    """By their names in small letters."""
    body: bytes

    def verified(self, secret: str = SECRET) -> dict[str, Any]:
        """What it says, as the library of Standard Webhooks reads it. Raises what that raises."""
        said: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return said


@dataclass(frozen=True)
class Reply:
    status: int = 204
    headers: Sequence[str] = ()
    body: bytes = b""
    after: asyncio.Event | None = None
    """Nothing is answered before this is set."""
    endless: bool = False
    """The body comes again and again."""


@dataclass
class Receiver:
    port: int = 0
    scheme: str = "http"
    got: list[Received] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    """In order; the last one for ever."""
    sent: int = 0
    """Bytes of bodies."""

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.got]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.got.append(await _read(reader))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if reply.after is not None:
                await reply.after.wait()
            length = () if reply.endless else (f"Content-Length: {len(reply.body)}",)
            head = "\r\n".join([f"HTTP/1.1 {reply.status} -", "Connection: close", *length, *reply.headers, "", ""])
            writer.write(head.encode() + reply.body)
            await writer.drain()
            while reply.endless:
                writer.write(reply.body)
                self.sent += len(reply.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the other side has gone
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Received(first.split()[1], headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def receiving(*replies: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver(scheme="https" if tls else "http", replies=list(replies) or [Reply()])
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        for reply in [*replies]:
            if reply.after is not None:
                reply.after.set()
        server.close()
