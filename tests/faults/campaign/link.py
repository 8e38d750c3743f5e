"""A TCP proxy before a server, on a port that stays the same, whose connections can be cut."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from contextlib import suppress

PIECE_BYTES = 65536
Connect = Callable[[], Awaitable[tuple[StreamReader, StreamWriter]]]


class Link:
    """`connect` opens a connection to the server itself."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._writers: set[StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen; a second time on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError):  # a server that is gone ends its connections: so does a link to it
            there, back = await self._connect()
            self._writers |= {writer, back}
            await asyncio.gather(_carry(reader, back), _carry(there, writer))
            self._writers -= {writer, back}
        writer.transport.abort()


async def _carry(reader: StreamReader, writer: StreamWriter) -> None:
    """Until there is no more; then whoever is at the other end is told so, the hard way."""
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.transport.abort()
