"""One run of the ngrok program: started, connected, asked, ended."""

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from pyngrok.log import NgrokLog

from api.child import end_with
from api.ngrok.refusals import TunnelError, code_in, refusal

STOP_SECONDS = 3.0
ANSWER_SECONDS = 5.0
NAME = "masuka"
_PASSED = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "LANG")
"""Of our environment; the token is not in it."""


class Agent:
    def __init__(self, process: Process, token: str) -> None:
        self._process = process
        self._token = token
        self._api = ""
        self._seen: set[str] = set()
        self._news = asyncio.Event()
        self._last_error = ""
        self.suspicious = False
        """It has said that something is wrong: then the address is tried from outside."""
        self._reading = asyncio.create_task(self._read())

    async def connect(self, upstream: str, seconds: float) -> str:
        """The public address that leads to this URL. Raises TunnelError."""
        try:
            async with asyncio.timeout(seconds):
                while not {"web", "session"} <= self._seen:
                    self._require_running()
                    self._news.clear()
                    await self._news.wait()
                return await self._open(upstream)
        except TimeoutError as exc:
            raise self._silent(seconds) from exc

    async def endpoints(self) -> list[str]:
        """The public addresses that it keeps, as it says itself. Raises TunnelError."""
        self._require_running()
        found = await self._ask("GET", "/api/endpoints")
        return [str(one.get("url") or one.get("public_url")) for one in found.get("endpoints") or []]

    def _require_running(self) -> None:
        """Raises TunnelError for what it has said before it ended, or says again and again."""
        code = code_in(self._last_error)
        if code is not None:
            raise refusal(code)
        if self._reading.done():
            raise TunnelError(f"ngrok has ended: {self._last_error or 'it said nothing'}.", code="ngrok_ended")

    def _silent(self, seconds: float) -> TunnelError:
        said = self._last_error or "it says nothing"
        return TunnelError(
            f"ngrok has not connected within {seconds:g} s: {said}.",
            code="ngrok_unreachable",
            hint="Check that this machine reaches the internet; it is tried again.",
        )

    async def _open(self, upstream: str) -> str:
        body = {"name": NAME, "upstream": {"url": upstream}, "inspect": False}
        found = await self._ask("POST", "/api/endpoints", body)
        url = str(found.get("url") or found.get("public_url") or "")
        if not url.startswith("http"):
            raise TunnelError("ngrok has opened no address.", code="ngrok_refused")
        return url.rstrip("/")

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as http:
                answer = await http.request(method, f"{self._api}{path}", json=body)
        except httpx.HTTPError as exc:
            raise TunnelError("The ngrok program does not answer.", code="ngrok_hangs") from exc
        if answer.is_error:
            code = code_in(answer.text)
            raise refusal(code) if code else TunnelError(f"ngrok answers {answer.status_code}.", code="ngrok_refused")
        try:
            return dict(answer.json())
        except ValueError as exc:
            raise TunnelError("The ngrok program answers nonsense.", code="ngrok_refused") from exc

    async def _read(self) -> None:
        """What it logs; only errors are kept, without the token, which ngrok repeats when it is wrong."""
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self._heed(NgrokLog(line.decode(errors="replace").replace(self._token, "***")))
        except ValueError:  # a line longer than the buffer
            self._last_error = "its log cannot be read"
        finally:
            self._news.set()

    def _heed(self, log: NgrokLog) -> None:
        msg, err = log.msg or "", log.err or ""
        if "starting web service" in msg and log.addr:
            self._api = f"http://{log.addr}"
            self._seen.add("web")
        elif "session established" in msg or "session started" in msg:
            self._seen.add("session")
        elif log.lvl in ("ERROR", "CRITICAL") and err not in ("", "nil"):
            self._last_error = self._last_error if code_in(self._last_error) else err.strip()
        if log.lvl in ("WARNING", "ERROR", "CRITICAL"):
            self.suspicious = True
        self._news.set()

    async def end(self) -> None:
        """Return when the process is gone."""
        self._reading.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def running(program: Path, home: Path, token: str) -> AsyncIterator[Agent]:
    """The agent, connected to nothing yet; gone after it, and with this process. Raises TunnelError."""
    parent = os.getpid()
    config = _configure(home, token)
    try:
        process = await asyncio.create_subprocess_exec(
            *(str(program), "start", "--none", "--log", "stdout", "--config", str(config)),
            env={"PATH": os.defpath, "HOME": str(home), **{n: os.environ[n] for n in _PASSED if n in os.environ}},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            preexec_fn=lambda: end_with(parent),
        )
    except OSError as exc:
        raise TunnelError(f"{program} cannot be started: {exc.strerror}.", code="ngrok_not_started") from exc
    agent = Agent(process, token)
    try:
        yield agent
    finally:
        await agent.end()


def _configure(home: Path, token: str) -> Path:
    """ngrok's configuration, which only the owner may read: a command line or an environment could be seen."""
    home.mkdir(parents=True, exist_ok=True)
    path, part = home / "ngrok.yml", home / "ngrok.yml.part"
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"version": "3", "agent": {"authtoken": token}}, file)  # JSON is YAML
    part.replace(path)
    return path
