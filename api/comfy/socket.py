"""The websocket on which ComfyUI tells how prompts are going: a hint that may stop at any moment."""

import asyncio
import json
import uuid
from collections.abc import Callable

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from api.comfy.messages import Frame, Status, parse

log = structlog.get_logger(__name__)

_OPEN_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
# ComfyUI answers pings from the process that computes; loading a large model may hold them up.
_PONG_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_FEATURES = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
"""Must be the first message; else previews do not say whose they are."""
_MAX_FRAME_BYTES = 64 * 1024 * 1024


class ComfySocket:
    """Connects, hands on every frame, and connects again when the connection is lost.

    Each connection has a client id of its own: ComfyUI's handler of a lost connection removes its client id whenever
    it notices, and would take the successor's away (ComfyUI issue 16010). Events of prompts submitted under an earlier
    id do not come any more; `on_lost` is called so that their owners look for themselves.
    """

    def __init__(self, base_url: str, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._url = base_url.replace("http", "ws", 1) + "/ws?clientId="
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._registered = asyncio.Event()
        self._connection: ClientConnection | None = None
        self.client_id = ""

    async def run(self) -> None:
        """Until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._follow_one_connection()
            except (OSError, TimeoutError, WebSocketException) as exc:
                log.debug("comfyui_socket_failed", error=type(exc).__name__)
            if self._registered.is_set():
                log.info("comfyui_socket_lost", client_id=self.client_id)
                pause = _FIRST_PAUSE_SECONDS
            self._registered.clear()
            self._on_lost()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def registered(self, timeout_seconds: float) -> bool:
        """Whether ComfyUI will send us events, waiting a little for a connection that is being made."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._registered.wait()
        except TimeoutError:
            return False
        return True

    def drop(self) -> None:
        """Give up a connection that has fallen silent; `run` makes a new one."""
        if self._connection is not None:
            self._connection.transport.abort()

    async def _follow_one_connection(self) -> None:
        self.client_id = uuid.uuid4().hex
        async with connect(
            self._url + self.client_id,
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            ping_timeout=_PONG_SECONDS,
            max_size=_MAX_FRAME_BYTES,
            compression=None,
            proxy=None,
        ) as connection:
            self._connection = connection
            await connection.send(_FEATURES)
            async for raw in connection:
                frame = parse(raw)
                if isinstance(frame, Status):
                    # ComfyUI registers the client id after the handshake and sends this first.
                    self._registered.set()
                self._on_frame(frame)
