"""A real headless Chromium, told what to do over its own debugging protocol."""

import asyncio
import base64
import itertools
import json
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from tests.waiting import until, until_async

CHROMIUM = "chromium"
START_SECONDS = 60.0
"""A machine with much else to do needs long to load a browser."""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"),
    *("--remote-debugging-port=0", "--window-size=1280,800"),
)
"""It reaches nothing but this machine."""


class Page:
    """One tab. What it asks for is JavaScript's answer, as JSON has it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []
        """Exceptions that nothing in the page has caught."""

    async def listen(self) -> None:
        async for frame in self._connection:
            message = json.loads(frame)
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            if (answer := self._answers.pop(message.get("id"), None)) is not None:
                answer.set_result(message)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await answer
        assert "error" not in message, message["error"]
        return dict(message["result"])

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def ask(self, script: str) -> Any:
        """The value of an expression, awaited when it is a promise."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str, seconds: float = 60) -> None:
        """Until the expression is true, however often the page is loaded anew meanwhile."""

        async def true() -> bool:
            with suppress(AssertionError):
                return bool(await self.ask(script))
            return False

        await until_async(true, seconds)

    async def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"]))
        return path


@asynccontextmanager
async def browsing(profile: Path) -> AsyncIterator[Page]:
    """A new browser with one empty tab; `profile` is its folder. `scripts/test` installs it."""
    executable = shutil.which(CHROMIUM)
    assert executable, "Chromium is needed: scripts/test installs it on Debian"
    command = [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    try:
        said = profile / "DevToolsActivePort"
        await until(lambda: said.exists() and "\n" in said.read_text(), START_SECONDS)
        port = int(said.read_text().split()[0])
        async with httpx.AsyncClient(trust_env=False, timeout=START_SECONDS) as client:
            tabs = (await client.get(f"http://127.0.0.1:{port}/json")).json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        async with websockets.connect(address, max_size=None, proxy=None, open_timeout=START_SECONDS) as connection:
            page = Page(connection)
            listening = asyncio.create_task(page.listen())
            for domain in ("Page", "Runtime", "Network"):
                await page.call(f"{domain}.enable")
            yield page
            listening.cancel()
    finally:
        process.kill()
        await process.wait()
