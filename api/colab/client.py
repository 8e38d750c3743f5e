"""The HTTP API for a notebook, whose Python has no httpx: requests, uploads, downloads, progress."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from api.colab.errors import ServiceProblem, ServiceSilent
from api.colab.form import Form

SECONDS = 300
PAGE = 200
STREAM_SECONDS = 60
"""The stream is never silent for longer."""
RECONNECT_SECONDS = 120.0
PAUSE_SECONDS = 0.5
ENDED = frozenset({"completed", "failed", "cancelled"})
_BROKEN = (OSError, http.client.HTTPException)


class Api:
    """Blocking. Every method raises ServiceProblem for a problem, ServiceSilent when nobody answers."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def get(self, path: str, **query: Any) -> Any:
        return json.loads(self.read(with_query(path, query)))

    def every(self, path: str) -> Iterator[dict[str, Any]]:
        """All items of a list, whatever its pages."""
        cursor = None
        while True:
            found = self.get(path, limit=PAGE, cursor=cursor)
            yield from found["items"]
            cursor = found["next_cursor"]
            if cursor is None:
                return

    def post(self, path: str, body: Mapping[str, Any] | None = None, key: str = "") -> Any:
        """`key`: the Idempotency-Key."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return json.loads(self._body(self._request("POST", path, headers, data)))

    def send(self, path: str, form: Form) -> Any:
        headers = {"Content-Type": form.content_type, "Content-Length": str(form.length)}
        return json.loads(self._body(self._request("POST", path, headers, form)))

    def delete(self, path: str) -> None:
        self._body(self._request("DELETE", path))

    def read(self, path: str) -> bytes:
        return self._body(self._request("GET", path))

    def status(self, path: str) -> tuple[int, Any]:
        """With the JSON, of any answer but one without JSON; 0 when nobody answers."""
        try:
            with self._open(self._request("GET", path), timeout=SECONDS) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, _json(exc.read())
        except _BROKEN:
            return 0, {}

    def follow(self, any_id: str) -> Iterator[dict[str, Any]]:
        """Snapshots until the job ends; a broken stream is taken up where it was."""
        last_id, broken_since = "", 0.0
        while True:
            try:
                with self._stream(any_id, last_id) as answer:
                    if answer.status == http.HTTPStatus.NO_CONTENT:
                        return
                    for event_id, snapshot in _events(answer):
                        last_id, broken_since = event_id, 0.0
                        yield snapshot
                        if snapshot["status"] in ENDED:
                            return
            except _BROKEN as exc:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > RECONNECT_SECONDS:
                    raise self._silent(exc) from exc
            time.sleep(PAUSE_SECONDS)

    def _stream(self, any_id: str, last_id: str) -> Any:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        request = self._request("GET", f"/api/progress/stream/{any_id}", headers)
        try:
            return self._open(request, timeout=STREAM_SECONDS)
        except urllib.error.HTTPError as exc:
            raise _problem(exc) from exc

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, data: Any = None
    ) -> urllib.request.Request:
        request = urllib.request.Request(self.url + path, data, dict(headers or {}), method=method)
        if self.token:  # a redirect to a bucket must not take it along
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    def _body(self, request: urllib.request.Request) -> bytes:
        try:
            with self._open(request, timeout=SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as exc:
            raise _problem(exc) from exc
        except _BROKEN as exc:
            raise self._silent(exc) from exc

    def _silent(self, exc: Exception) -> ServiceSilent:
        return ServiceSilent(f"MASUKA does not answer at {self.url}: {exc}.", hint="Run the first cell again.")


def with_query(path: str, query: Mapping[str, Any]) -> str:
    chosen = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urllib.parse.urlencode(chosen)}" if chosen else path


def save(data: bytes, path: Path) -> Path:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_name(f".{path.name}.part")
    arriving.write_bytes(data)
    arriving.replace(path)
    return path


def _events(lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ids and snapshots, of server-sent events."""
    event_id = ""
    for line in lines:
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "id":
            event_id = value
        elif field == "data":
            yield event_id, json.loads(value)


def _problem(exc: urllib.error.HTTPError) -> ServiceProblem:
    with exc:
        body = _json(exc.read())
    return ServiceProblem(
        body.get("detail") or f"The service answered {exc.code}.",
        code=body.get("code") or f"http_{exc.code}",
        value=body.get("value"),
        hint=body.get("hint"),
    )


def _json(data: bytes) -> Any:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
