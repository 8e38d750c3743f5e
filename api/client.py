"""A thin client of the HTTP API, for the command line and the demo."""

import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self

import httpx

from api.errors import MasukaError, UnavailableError

TIMEOUT = httpx.Timeout(30, read=600)
ENDED = frozenset({"completed", "failed", "cancelled"})
RECONNECT_SECONDS = 60.0
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".txt"})


class ApiProblem(MasukaError):
    """The API answered with a problem; `code`, detail and hint are its own."""


class _SentFile(io.RawIOBase):
    """A file that is open only while it is sent: an upload may have more of them than a process may have open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: BinaryIO | None = None

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """To the beginning; the end's position is the file's size, which is asked for before it is sent."""
        return self._path.stat().st_size if whence == os.SEEK_END else 0

    def read(self, size: int = -1, /) -> bytes:
        if self._open is None:
            self._open = self._path.open("rb")
        data = self._open.read(size)
        if not data:
            self._open.close()
            self._open = None
        return data


class Api:
    """Blocking; every method raises ApiProblem for a problem, UnavailableError when nobody answers."""

    def __init__(self, url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False, follow_redirects=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._json("GET", path, params={key: value for key, value in params.items() if value is not None})

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._json("POST", path, json=body) if body is not None else self._json("POST", path)

    def upload_dataset(self, folder: Path, fields: dict[str, str]) -> dict[str, Any]:
        """Every picture and caption of a folder, or the one zip."""
        paths = (
            [folder]
            if folder.is_file()
            else [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
        )
        if not paths:
            raise MasukaError(
                f"There are no pictures in {folder}.",
                code="no_pictures",
                hint="Name a folder with PNG, JPEG or WebP files.",
            )
        files = [("files", (path.name, _SentFile(path))) for path in paths]
        return self._json("POST", "/api/datasets/", data=fields, files=files)

    def import_lora(self, file: Path, fields: dict[str, str]) -> dict[str, Any]:
        """The model that the file has become."""
        files = [("file", (file.name, _SentFile(file)))]
        return self._json("POST", "/api/models/import", data=fields, files=files)

    def download(self, path: str, destination: Path) -> Path:
        """Save a file whole or not at all."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        arriving = destination.with_name(f".{destination.name}.part")
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    _raise_problem(response)
                with arriving.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            arriving.rename(destination)
        except httpx.TransportError as exc:
            raise self._silent(exc) from exc
        finally:
            arriving.unlink(missing_ok=True)
        return destination

    def follow(self, any_id: str) -> Iterator[dict[str, Any]]:
        """Snapshots of a session, asset or job until it ends; a broken stream is taken up where it was."""
        last_id, broken_since = "", 0.0
        while True:
            try:
                for event_id, snapshot in self._stream(any_id, last_id):
                    last_id, broken_since = event_id, 0.0
                    yield snapshot
                    if snapshot["status"] in ENDED:
                        return
                if last_id and self._has_ended(any_id, last_id):
                    return
            except httpx.TransportError as exc:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > RECONNECT_SECONDS:
                    raise self._silent(exc) from exc
            time.sleep(0.5)

    def _has_ended(self, any_id: str, last_id: str) -> bool:
        with self._http.stream("GET", f"/api/progress/stream/{any_id}", headers={"Last-Event-ID": last_id}) as response:
            return response.status_code == httpx.codes.NO_CONTENT

    def _stream(self, any_id: str, last_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        with self._http.stream("GET", f"/api/progress/stream/{any_id}", headers=headers, timeout=60) as response:
            if response.is_error:
                response.read()
                _raise_problem(response)
            event_id = ""
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    event_id = value
                elif field == "data":
                    yield event_id, json.loads(value)

    def wait_ready(self, seconds: float) -> dict[str, Any]:
        """Until `/ready` says 200. Raises UnavailableError with what is missing."""
        deadline = time.monotonic() + seconds
        missing: Iterable[str] = ("no answer yet",)
        while time.monotonic() < deadline:
            try:
                response = self._http.get("/ready")
                if response.status_code == httpx.codes.OK:
                    return dict(response.json())
                parts = response.json().get("parts", {})
                missing = [f"{name}: {part['detail']}" for name, part in parts.items() if not part["ok"]]
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise UnavailableError(
            f"MASUKA at {self.url} is not ready: {'; '.join(missing)}.", code="not_ready", hint="See its log."
        )

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as exc:
            raise self._silent(exc) from exc
        if response.is_error:
            _raise_problem(response)
        return dict(response.json()) if response.content else {}

    def _silent(self, exc: httpx.TransportError) -> UnavailableError:
        return UnavailableError(
            f"MASUKA does not answer at {self.url}: {exc}.",
            code="api_unreachable",
            hint="Start it with `masuka up`, or name another address with --url.",
        )


def _raise_problem(response: httpx.Response) -> NoReturn:
    try:
        body = response.json()
    except ValueError:
        body = {}
    raise ApiProblem(
        body.get("detail", f"The API answered {response.status_code}."),
        code=body.get("code", f"http_{response.status_code}"),
        value=body.get("value"),
        hint=body.get("hint"),
    )
