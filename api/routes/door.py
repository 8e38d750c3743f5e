"""`/door`: how a browser gets in, which cannot send a token by itself: with a one-time link, or by typing the token."""

import time
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from api.errors import ConflictError
from api.routes.canvas_door import ask_for_token, key_page
from api.routes.deps import ResourcesDep
from api.routes.guard import DOOR
from api.routes.lock import Lock
from api.routes.once import KeyHeader
from api.routes.problems import responses
from api.services import door_links
from api.tunnel import state

router = APIRouter(tags=["door"])

HOME = "/docs"
ASK = "The door needs your token"
USED = "This link was used before, or is too old."


class DoorLink(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "url": "http://127.0.0.1:8000/door?key=Zx0...&to=%2Fcomfyui%2F",
                "public_url": "https://example.ngrok-free.app/door?key=Zx0...&to=%2Fcomfyui%2F",
                "expires_at": "2026-11-22T12:10:00Z",
            }
        }
    )

    url: str = Field(description="Opens the door once, at the address of this request.")
    public_url: str | None = Field(description="The same link through the tunnel; null while there is none.")
    expires_at: datetime


@router.post("/api/door/links", status_code=201, responses=responses(409, 422))
async def make_link(
    request: Request, response: Response, resources: ResourcesDep, key: KeyHeader = None, to: str = HOME
) -> DoorLink:
    """A link that lets one browser in, once, within 10 minutes; it then carries a cookie instead of the token."""
    lock: Lock = request.app.state.lock
    if not lock.token:
        raise ConflictError(
            "The door is open: there is no token.",
            code="door_open",
            hint="`masuka token` makes one for the next start.",
        )
    secret = door_links.new_key(lock.token, key)
    await door_links.offer(resources.redis, secret)
    link = f"{DOOR}?key={secret}&to={quote(_inside(to), safe='')}"
    public = state.url(resources.settings)
    response.headers["Cache-Control"] = "no-store"
    return DoorLink(
        url=f"{str(request.base_url).rstrip('/')}{link}",
        public_url=f"{public}{link}" if public else None,
        expires_at=datetime.fromtimestamp(time.time() + door_links.LIFE_SECONDS, UTC),
    )


@router.get(DOOR, include_in_schema=False)
async def knock(request: Request, resources: ResourcesDep, key: str = "", to: str = HOME) -> Response:
    """Nothing is used up by looking: programs that preview links must not take the key."""
    lock: Lock = request.app.state.lock
    if not lock.token:
        return RedirectResponse(_inside(to), 303)
    if key and await door_links.opens(resources.redis, key):
        return key_page(key, _inside(to))
    refusal = lock.turned_away(request.scope) if key else lock.refused(request.scope, request.headers)
    return _said(request, refusal, _inside(to), USED if key else "")


@router.post(DOOR, include_in_schema=False)
async def enter(request: Request, resources: ResourcesDep) -> Response:
    """A form with the key of a link or the token."""
    lock: Lock = request.app.state.lock
    fields = {name: values[0] for name, values in parse_qs((await request.body()).decode("latin-1")).items()}
    to = _inside(fields.get("to", HOME))
    key, token = fields.get("key", ""), fields.get("token", "")
    by_key = bool(key) and await door_links.use(resources.redis, key)
    if lock.token and not by_key and not lock.opens(token):
        return _said(request, lock.turned_away(request.scope), to, USED if key else "That is not the token.")
    response = RedirectResponse(to, 303, {"Cache-Control": "no-store"})
    lock.let_in(response, request.scope)
    return response


def _said(request: Request, refusal: Response, to: str, detail: str) -> Response:
    """The refusal, for a person as a page."""
    if refusal.status_code != 401 or "text/html" not in request.headers.get("accept", ""):
        return refusal
    return ask_for_token(ASK, to, detail)


def _inside(to: str) -> str:
    """A place of this service: whoever made the link sends nobody elsewhere."""
    safe = to.startswith("/") and not to.startswith("//") and to.isascii() and to.isprintable() and "\\" not in to
    return to if safe and not to.startswith(DOOR) else HOME
