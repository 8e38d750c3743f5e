"""The canvas's websocket, through to ComfyUI and back."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog
import websockets
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from api.routes.canvas_proxy import Upstream, raw_path_of

log = structlog.get_logger(__name__)

GONE = 1012
"""Service restart: the canvas connects again by itself."""
SLOW_DOWN_SECONDS = 1.0
"""The canvas tries again three times a second, for as long as a training takes."""
MAX_MESSAGE_BYTES = 64 * 1024**2


async def relay(upstream: Upstream, browser: WebSocket) -> None:
    """Until either side has gone. Raises CanvasUnavailableError, with nothing accepted, while there is no ComfyUI."""
    url = await upstream.url()
    address = url.replace("http://", "ws://", 1) + raw_path_of(browser).decode("latin-1")
    try:
        # No Origin: it was judged at our own door, and the library sends the Host of the address.
        connecting = websockets.connect(address, max_size=MAX_MESSAGE_BYTES, proxy=None, compression=None)
        async with connecting as comfyui:
            await browser.accept()
            await _both_ways(browser, comfyui)
    except (OSError, WebSocketException) as exc:
        upstream.forget()
        log.info("canvas_socket_lost", error=str(exc))
        await asyncio.sleep(SLOW_DOWN_SECONDS)
        await _close(browser)


async def _both_ways(browser: WebSocket, comfyui: ClientConnection) -> None:
    ways = {asyncio.create_task(_inwards(browser, comfyui)), asyncio.create_task(_outwards(browser, comfyui))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    await _close(browser)


async def _inwards(browser: WebSocket, comfyui: ClientConnection) -> None:
    try:
        while (message := await browser.receive())["type"] == "websocket.receive":
            await comfyui.send(_data(message))
    except ConnectionClosed:
        return


async def _outwards(browser: WebSocket, comfyui: ClientConnection) -> None:
    try:
        async for data in comfyui:
            if isinstance(data, str):
                await browser.send_text(data)
            else:
                await browser.send_bytes(data)
    except (ConnectionClosed, WebSocketDisconnect):
        return


def _data(message: Mapping[str, object]) -> str | bytes:
    text, data = message.get("text"), message.get("bytes")
    return text if isinstance(text, str) else data if isinstance(data, bytes) else b""


async def _close(browser: WebSocket) -> None:
    """One that has gone already needs no word."""
    if WebSocketState.DISCONNECTED not in (browser.client_state, browser.application_state):
        with suppress(WebSocketDisconnect):
            await browser.close(GONE)
