"""A TCP proxy before a ComfyUI that can freeze or cut what passes through it."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class FaultyLink:
    """Use as a context manager; `url` takes the place of the ComfyUI's."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sockets_made = 0
        self.prompts_sent = 0
        self.lose_next_prompt_answer = False
        self.prompts_pass = asyncio.Event()
        """Cleared: prompts are on their way and do not arrive."""
        self.prompts_pass.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cut()
        await asyncio.gather(*self._tasks)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def freeze_sockets(self) -> None:
        """Websockets that exist stay open, and nothing comes through them any more."""
        for connection in self._connections:
            if connection.is_socket:
                connection.thawed.clear()

    def drop_sockets(self) -> None:
        for connection in list(self._connections):
            if connection.is_socket:
                connection.cut()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        # A ComfyUI that is gone, or a client that hangs up, ends a connection: that is what a link does.
        with suppress(OSError):
            upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
            connection = _Connection(self, (reader, writer), upstream)
            self._connections.add(connection)
            try:
                await asyncio.gather(connection.to_comfyui(), connection.from_comfyui())
            finally:
                self._connections.discard(connection)
        writer.close()


class _Connection:
    def __init__(
        self, link: FaultyLink, client: tuple[StreamReader, StreamWriter], comfyui: tuple[StreamReader, StreamWriter]
    ) -> None:
        self._link = link
        self._client_reader, self._client_writer = client
        self._comfyui_reader, self._comfyui_writer = comfyui
        self._lose_answer = False
        self.is_socket = False
        self.thawed = asyncio.Event()
        self.thawed.set()

    async def to_comfyui(self) -> None:
        while data := await self._client_reader.read(65536):
            await self._look_at(data)
            self._comfyui_writer.write(data)
        self.cut()

    async def from_comfyui(self) -> None:
        while data := await self._comfyui_reader.read(65536):
            await self.thawed.wait()
            if self._lose_answer:
                break
            self._client_writer.write(data)
        self.cut()

    def cut(self) -> None:
        self.thawed.set()
        self._client_writer.transport.abort()
        self._comfyui_writer.transport.abort()

    async def _look_at(self, data: bytes) -> None:
        if data.startswith(b"GET /ws"):
            self.is_socket = True
            self._link.sockets_made += 1
        elif data.startswith(b"POST /prompt"):
            self._link.prompts_sent += 1
            self._lose_answer = self._link.lose_next_prompt_answer
            self._link.lose_next_prompt_answer = False
            await self._link.prompts_pass.wait()
