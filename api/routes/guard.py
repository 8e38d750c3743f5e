"""Stands before every route and every websocket: the token, the Host and Origin of browsers, the size of a body."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import InputError, MasukaError, TooLargeError
from api.routes.canvas_door import given_token, has_cookie, is_canvas, sign_in, sign_in_page, wants_page
from api.routes.lock import Lock
from api.routes.problems import answer, problem
from api.settings import Settings, is_loopback
from api.tunnel import state

OPEN_PATHS = frozenset({"/health"})
DOOR = "/door"
"""Where browsers knock: the route judges for itself whether the key or the token is right."""
MAX_JSON_BYTES = 1_000_000
UPLOAD_PATHS = frozenset({"/api/datasets/", "/api/inputs/", "/api/models/import"})
"""Their routes stream a form to disk and count it themselves; everything else is held in memory."""


class ForbiddenError(InputError):
    """This request may come from a web page that only pretends to be ours."""

    status = 403
    title = "Forbidden"
    default_code = "origin_not_allowed"


class Guard:
    """Pure ASGI, so that it costs nothing to streams.

    Without a token only this machine may ask, so a Host that is not loopback (DNS rebinding) and an Origin other than
    the Host (a web page posting across sites) are refused. Browsers carry a cookie instead of the token, which is why
    the Host is looked at wherever one counts.
    """

    def __init__(self, app: ASGIApp, settings: Settings, lock: Lock) -> None:
        self._app = app
        self._lock = lock
        self._settings = settings
        self._hosts = {host.lower() for host in (*settings.masuka_allowed_hosts, settings.masuka_host)}
        self._origins = {origin.lower() for origin in settings.masuka_cors_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        canvas = is_canvas(scope["path"])
        instead = self._instead(scope, headers, canvas)
        if instead is not None:
            await instead(scope, receive, send)
            return
        if scope["type"] == "websocket" or canvas or _is_upload(scope["path"], headers):
            await self._app(scope, receive, send)
        elif _announced_bytes(headers) > MAX_JSON_BYTES:
            await answer(problem(_too_large()))(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)

    def _instead(self, scope: Scope, headers: Headers, canvas: bool) -> Response | None:
        """What is answered without asking any route: a refusal, or how a browser gets to the canvas."""
        bearer = bool(self._lock.token) and self._lock.has_bearer(headers)
        let_in = not self._lock.token or bearer or self._has_cookie(headers, canvas) or scope["path"] == DOOR
        refusal = self._browser_refusal(headers, host_matters=canvas or not bearer)
        if let_in:
            return None if refusal is None else answer(problem(refusal))
        if canvas and refusal is None:
            entry = sign_in(scope, self._lock.token)
            if entry is not None:
                return entry
            if given_token(scope) is not None:
                return self._lock.turned_away(scope)
            if wants_page(scope, headers):
                return sign_in_page(scope)
        return self._lock.refused(scope, headers)

    def _has_cookie(self, headers: Headers, canvas: bool) -> bool:
        return self._lock.has_cookie(headers) or (canvas and has_cookie(headers, self._lock.token))

    def _browser_refusal(self, headers: Headers, *, host_matters: bool) -> MasukaError | None:
        host = _host_name(headers.get("host", ""))
        if host_matters and not self._is_ours(host):
            return ForbiddenError(
                "This Host is not allowed.", code="host_not_allowed", value=host, hint="Add it to MASUKA_ALLOWED_HOSTS."
            )
        origin = headers.get("origin", "").lower()
        same = origin.partition("://")[2] == headers.get("host", "").lower()
        if "origin" in headers and not (same or origin in self._origins):
            return ForbiddenError(
                "Requests from web pages of another origin are not allowed.",
                value=origin,
                hint="Add it to MASUKA_CORS_ORIGINS if it is yours.",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        return (
            is_loopback(host) or host in self._hosts or (bool(host) and host == _host_name(state.host(self._settings)))
        )


def _is_upload(path: str, headers: Headers) -> bool:
    return path in UPLOAD_PATHS and not is_json(headers.get("content-type", ""))


def is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _announced_bytes(headers: Headers) -> int:
    """0 when nothing sensible is announced: then the body is counted as it comes."""
    size = headers.get("content-length", "")
    return int(size) if size.isdecimal() and len(size) < 20 else 0


def _too_large() -> TooLargeError:
    return TooLargeError(f"The body is larger than {MAX_JSON_BYTES:,} bytes.", code="body_too_large")


def _limited(receive: Receive) -> Receive:
    """`receive` that raises TooLargeError for a body sent in chunks at the same limit."""
    seen = 0

    async def receive_limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_JSON_BYTES:
            raise _too_large()
        return message

    return receive_limited
