"""How a browser, which cannot send a header of its own, carries the token to the canvas: a cookie for `/comfyui/`."""

import hashlib
import hmac
from html import escape
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from api.routes.lock import cookie_in

CANVAS = "/comfyui"
ENTRY = f"{CANVAS}/"
COOKIE = "masuka_canvas"
COOKIE_SECONDS = 30 * 24 * 3600
_TOKEN = "token"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>MASUKA</title>
<meta name="viewport" content="width=device-width">{head}
<style>body{{font:16px/1.5 system-ui,sans-serif;background:#202020;color:#ddd}}
body{{max-width:34rem;margin:20vh auto;padding:0 1rem}}
input,button{{font:inherit;padding:.4rem .6rem}}</style>{body}"""
_NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_FORM = """<h1>{title}</h1><p>{detail} It is the value of <code>MASUKA_API_TOKEN</code>; <code>masuka token</code> shows
one that was made, and <code>masuka link</code> a link that needs none.</p>
<form action="/door" method="post"><input type="hidden" name="to" value="{to}">
<input type="password" name="token" autofocus required aria-label="Token" autocomplete="current-password">
<button>Open</button></form>"""
_KEY_FORM = """<h1>MASUKA</h1><p>This link opens the door for this browser, once.</p>
<form action="/door" method="post"><input type="hidden" name="to" value="{to}">
<input type="hidden" name="key" value="{key}"><button autofocus>Open</button></form>"""


def asset_url(asset_id: UUID) -> str:
    """Opens this asset's graph in the canvas."""
    return f"{ENTRY}?asset={asset_id}"


def is_canvas(path: str) -> bool:
    return path == CANVAS or path.startswith(ENTRY)


def has_cookie(headers: Headers, token: str) -> bool:
    """Whether the request comes from a browser that has shown the token before."""
    value = cookie_in(headers, COOKIE)
    return value is not None and hmac.compare_digest(value.encode(), _cookie_of(token).encode())


def given_token(scope: Scope) -> str | None:
    """The token in `/comfyui/?token=...`."""
    if scope["type"] != "http" or scope["path"] != ENTRY or scope["method"] != "GET":
        return None
    return dict(_query(scope)).get(_TOKEN)


def sign_in(scope: Scope, token: str) -> Response | None:
    """The answer to `/comfyui/?token=...`: the cookie, and the same address without the token; None if it is wrong."""
    given, query = given_token(scope), _query(scope)
    if given is None or not hmac.compare_digest(given.strip().encode(), token.encode()):
        return None
    rest = urlencode([(name, value) for name, value in query if name != _TOKEN])
    response = RedirectResponse(f"{ENTRY}?{rest}" if rest else ENTRY, 303, {"Referrer-Policy": "no-referrer"})
    response.headers["Cache-Control"] = "no-store"
    response.set_cookie(
        COOKIE,
        _cookie_of(token),
        max_age=COOKIE_SECONDS,
        path=ENTRY,
        httponly=True,
        samesite="strict",
        secure=scope["scheme"] == "https",
    )
    return response


def sign_in_page(scope: Scope) -> Response:
    """For a browser without the cookie that wants to look at the canvas."""
    rest = urlencode([(name, value) for name, value in _query(scope) if name != _TOKEN])
    return ask_for_token("The canvas needs your token", f"{ENTRY}?{rest}" if rest else ENTRY)


def ask_for_token(title: str, to: str, detail: str = "") -> Response:
    """A form that sends the token to the door, and the browser from there to `to`; never in an address."""
    form = _FORM.format(title=escape(title), detail=escape(detail), to=escape(to))
    return page(form, 401)


def key_page(key: str, to: str) -> Response:
    """The link was opened: by a person who now presses the button, or by a program that looks at links and does not."""
    return page(_KEY_FORM.format(key=escape(key), to=escape(to)), 200)


def waiting_page(title: str, detail: str, again_seconds: int) -> Response:
    """What a browser shows while there is no ComfyUI; it looks again by itself."""
    body = f"<h1>{escape(title)}</h1><p>{escape(detail)}</p>"
    response = page(body, 503, f'<meta http-equiv="refresh" content="{again_seconds}">')
    response.headers["Retry-After"] = str(again_seconds)
    return response


def page(body: str, status: int, head: str = "") -> Response:
    # Without a referrer, browsers send a form's Origin as `null`.
    safe = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _NOTHING_ELSE,
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(_PAGE.format(head=head, body=body), status, safe)


def wants_page(scope: Scope, headers: Headers) -> bool:
    """Whether a person looks at the answer."""
    return scope["type"] == "http" and scope["path"] in (CANVAS, ENTRY) and "text/html" in headers.get("accept", "")


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _cookie_of(token: str) -> str:
    """Not the token itself: whoever gets hold of it gets no further than the canvas."""
    return hmac.new(token.encode(), b"masuka canvas cookie", hashlib.sha256).hexdigest()
