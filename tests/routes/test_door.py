"""Every way in: what is closed without the token, links that open once, tries that are limited, and other origins."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.routing import APIWebSocketRoute
from pydantic import SecretStr
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message

from api.domain import door_cookie
from api.domain.tries import OVERALL, PER_ADDRESS
from api.settings import Settings, load_settings
from api.tunnel import state
from api.tunnel.state import Stand, Tunnel
from tests.service import NOBODY, URL, Service, assert_problem, over_http, serving, with_values

TOKEN = "a-long-secret-of-the-owner"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PAGE = {"Accept": "text/html"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Origin": URL, **PAGE}
FRIEND = "https://friend.example"


@pytest.fixture
def locked_settings(service_settings: Settings) -> Settings:
    return with_values(service_settings, masuka_api_token=SecretStr(TOKEN))


@pytest.fixture
async def locked(locked_settings: Settings) -> AsyncIterator[Service]:
    async with serving(locked_settings) as opened:
        yield opened


async def _link(service: Service, **params: str) -> str:
    """A new link, without the host."""
    made = await service.client.post("/api/door/links", params=params, headers=BEARER)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    return str(made.json()["url"]).removeprefix(URL)


def _fields(page: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))


# ---- every route -----------------------------------------------------------------------------------------------------


def _leaves(routes: list[BaseRoute]) -> Iterator[BaseRoute]:
    for route in routes:
        inner = getattr(getattr(route, "original_router", None) or route, "routes", None)
        if inner:
            yield from _leaves(inner)
        else:
            yield route


async def _refusal_of_a_socket(service: Service, path: str) -> int:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "scheme": "ws"}
    headers = [(b"host", b"127.0.0.1:8000")]
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    await service.asgi({**scope, "headers": headers, "extensions": extensions, "subprotocols": []}, receive, send)
    assert sent[0]["type"] == "websocket.http.response.start"
    return int(sent[0]["status"])


async def test_without_the_token_every_route_and_websocket_is_closed_but_health(locked: Service) -> None:
    seen: list[str] = []
    for route in _leaves(locked.app.routes):
        path = re.sub(r"\{[^}]+\}", NOBODY, route.path)  # type: ignore[attr-defined]
        seen.append(path)
        if isinstance(route, WebSocketRoute | APIWebSocketRoute):
            assert await _refusal_of_a_socket(locked, path) == 401, path
            continue
        assert isinstance(route, Route), route
        for method in sorted({*(route.methods or ()), "HEAD", "OPTIONS", "PUT", "TRACE"}):
            response = await locked.client.request(method, path)
            if path == "/health":
                assert response.status_code in (200, 405), method
            elif path == "/door" and method not in ("GET", "POST"):
                assert response.status_code == 405, method
            else:
                assert response.status_code == 401, (method, path)
    assert {"/health", "/docs", "/redoc", "/openapi.json", "/door", "/comfyui/ws", "/api/jobs/"} <= set(seen)
    assert len(seen) > 50


# ---- a link that opens once ------------------------------------------------------------------------------------------


async def test_a_link_opens_once_for_one_browser_everywhere_and_looking_does_not_use_it(locked: Service) -> None:
    link = await _link(locked, to="/comfyui/?asset=7")
    for _ in range(2):  # a program that previews links, then the person
        page = await locked.client.get(link, headers=PAGE)
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        assert "set-cookie" not in page.headers
    entered = await locked.client.post("/door", data=_fields(page), headers=FORM)
    assert (entered.status_code, entered.headers["location"]) == (303, "/comfyui/?asset=7")
    cookie = entered.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict", f"Max-Age={door_cookie.SECONDS}"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    kept = {"Cookie": cookie.partition(";")[0]}
    for path in ("/docs", "/openapi.json", "/api/jobs/"):
        assert (await locked.client.get(path, headers=kept)).status_code == 200
    assert_problem(await locked.client.get(f"/api/progress/stream/{NOBODY}", headers=kept), 404, "stream_not_found")
    locked.client.cookies.clear()
    again = await locked.client.post("/door", data=_fields(page), headers=FORM)
    assert (again.status_code, "set-cookie" in again.headers) == (401, False)
    assert "used before" in again.text
    assert "used before" in (await locked.client.get(link, headers=PAGE)).text


async def test_of_many_who_use_a_link_at_once_one_gets_in(locked: Service) -> None:
    key = parse_qs(urlsplit(await _link(locked)).query)["key"][0]
    answers = await asyncio.gather(*(locked.client.post("/door", data={"key": key}, headers=FORM) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [303] + [401] * 7


async def test_a_repeated_request_for_a_link_gets_the_same_and_revives_no_used_one(locked: Service) -> None:
    headers = {**BEARER, "Idempotency-Key": "one"}
    links = [(await locked.client.post("/api/door/links", headers=headers)).json()["url"] for _ in range(2)]
    assert links[0] == links[1]
    assert links[0] != (await locked.client.post("/api/door/links", headers=BEARER)).json()["url"]
    key = parse_qs(urlsplit(links[0]).query)["key"][0]
    assert (await locked.client.post("/door", data={"key": key}, headers=FORM)).status_code == 303
    locked.client.cookies.clear()
    await locked.client.post("/api/door/links", headers=headers)
    assert (await locked.client.post("/door", data={"key": key}, headers=FORM)).status_code == 401


async def test_redis_and_database_know_no_key(locked: Service) -> None:
    key = parse_qs(urlsplit(await _link(locked)).query)["key"][0]
    redis = locked.resources.redis
    names = [name async for name in redis.scan_iter("masuka:door:*")]
    assert len(names) == 1
    assert key.encode() not in names[0]
    assert 0 < await redis.ttl(names[0]) <= 600
    assert sum((await locked.traces()).values()) == 0


@pytest.mark.parametrize(
    "to", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a\r\nSet-Cookie: x", "/door?key=1"]
)
async def test_a_link_leads_nowhere_else(locked: Service, to: str) -> None:
    assert (await _link(locked, to=to)).endswith("to=%2Fdocs")
    entered = await locked.client.post("/door", data={"token": TOKEN, "to": to}, headers=FORM)
    assert entered.headers["location"] == "/docs"


async def test_the_token_may_be_typed_into_the_page_of_the_canvas(locked: Service) -> None:
    page = await locked.client.get("/comfyui/?asset=7", headers=PAGE)
    assert (page.status_code, 'action="/door" method="post"' in page.text) == (401, True)
    wrong = await locked.client.post("/door", data={**_fields(page), "token": "x"}, headers=FORM)
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert "not the token" in wrong.text
    right = await locked.client.post("/door", data={**_fields(page), "token": TOKEN}, headers=FORM)
    assert (right.status_code, right.headers["location"]) == (303, "/comfyui/?asset=7")


async def test_a_form_of_another_site_cannot_use_the_door(locked: Service) -> None:
    for origin in ("https://evil.example", "null"):
        headers = {**FORM, "Origin": origin}
        refused = await locked.client.post("/door", data={"token": TOKEN}, headers=headers)
        assert_problem(refused, 403, "origin_not_allowed")


async def test_a_cookie_counts_at_a_host_of_ours_alone_and_behind_https_is_secure(locked_settings: Settings) -> None:
    async with over_http(locked_settings) as client:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
        entered = await client.post("/door", data={"token": TOKEN}, headers=forwarded)
        assert "Secure" in entered.headers["set-cookie"].split("; ")
        kept = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
        assert (await client.get("/api/jobs/", headers=kept)).status_code == 200
        refused = await client.get("/api/jobs/", headers={**kept, "Host": "evil.example"})
        assert_problem(refused, 403, "host_not_allowed")


async def test_the_tunnels_own_host_is_one_of_ours_while_it_is_open(locked: Service) -> None:
    away = {"Host": "mine.ngrok-free.app"}
    assert_problem(await locked.client.get("/door", headers=away), 403, "host_not_allowed")
    state.tell(locked.settings, Tunnel(Stand.OPEN, "https://mine.ngrok-free.app"))
    assert_problem(await locked.client.get("/door", headers=away), 401, "token_invalid")
    made = (await locked.client.post("/api/door/links", headers=BEARER)).json()
    assert made["public_url"] == made["url"].replace(URL, "https://mine.ngrok-free.app")


async def test_where_no_token_is_wanted_the_door_is_open(service: Service) -> None:
    assert_problem(await service.client.post("/api/door/links"), 409, "door_open")
    assert (await service.client.get("/door?to=/comfyui/")).headers["location"] == "/comfyui/"


# ---- failed tries ----------------------------------------------------------------------------------------------------


async def test_after_too_many_wrong_tokens_an_address_waits_and_the_owner_does_not(locked: Service) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/jobs/", {"headers": wrong}),
        ("GET", "/comfyui/?token=wrong", {}),
        ("GET", "/door?key=wrong", {}),
        ("POST", "/door", {"data": {"token": "wrong"}}),
    ]
    for n in range(PER_ADDRESS):
        method, path, options = ways[n % len(ways)]
        assert_problem(await locked.client.request(method, path, **options), 401, "token_invalid")
    for method, path, options in ways:
        refused = await locked.client.request(method, path, **options)
        assert_problem(refused, 429, "too_many_tries")
        assert 0 < int(refused.headers["retry-after"]) <= 61
        assert "wrong" not in refused.text.replace("wrong tokens", "")
    assert (await locked.client.get("/api/jobs/", headers=BEARER)).status_code == 200
    assert (await locked.client.post("/door", data={"token": TOKEN}, headers=FORM)).status_code == 303
    locked.client.cookies.clear()
    assert_problem(await locked.client.get("/api/jobs/"), 401, "token_invalid")  # asking without one is no try


async def test_an_address_is_believed_from_trusted_proxies_alone(locked_settings: Settings) -> None:
    """On a real socket: the peer is this machine, whose proxy appends whom it asks for."""
    async with over_http(locked_settings) as client:

        async def wrong(forwarded_for: str) -> int:
            headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": forwarded_for}
            return (await client.get("/api/jobs/", headers=headers)).status_code

        answers = [await wrong(f"10.0.0.{n}, 192.0.2.1") for n in range(PER_ADDRESS + 1)]  # claims a new one each time
        assert answers == [401] * PER_ADDRESS + [429]
        assert await wrong("192.0.2.2") == 401
        for n in range(OVERALL):
            await wrong(f"198.51.100.{n}")
        assert await wrong("203.0.113.7") == 429
        assert (await client.get("/api/jobs/", headers=BEARER)).status_code == 200


# ---- other origins ---------------------------------------------------------------------------------------------------


async def test_other_origins_are_closed_out_unless_they_are_named(locked: Service, locked_settings: Settings) -> None:
    preflight = {"Origin": FRIEND, "Access-Control-Request-Method": "POST"}
    closed = await locked.client.options("/api/generate/image", headers=preflight)
    assert closed.status_code == 401
    assert not [name for name in closed.headers if name.startswith("access-control")]
    async with serving(with_values(locked_settings, masuka_cors_origins=[FRIEND])) as service:
        allowed = await service.client.options("/api/generate/image", headers=preflight)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, FRIEND)
        assert "access-control-allow-credentials" not in allowed.headers
        answer = await service.client.get("/api/jobs/", headers={"Origin": FRIEND, **BEARER})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, FRIEND)
        assert_problem(await service.client.get("/api/jobs/", headers={"Origin": FRIEND}), 401, "token_invalid")
        evil = {"Origin": "https://evil.example", **BEARER}
        refused = await service.client.get("/api/jobs/", headers=evil)
        assert_problem(refused, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MASUKA_CORS_ORIGINS", "*"),
        ("MASUKA_CORS_ORIGINS", "https://*.example.org"),
        ("MASUKA_CORS_ORIGINS", "https://example.org/"),
        ("MASUKA_CORS_ORIGINS", "example.org"),
        ("MASUKA_TRUSTED_PROXIES", "*"),
        ("MASUKA_TRUSTED_PROXIES", "proxy.example"),
    ],
)
def test_settings_that_would_let_everybody_in_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=name):
        load_settings(_env_file=None)


# ---- what every answer says ------------------------------------------------------------------------------------------


async def test_every_answer_tells_browsers_to_be_careful(
    locked: Service, service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, headers in (("/health", {}), ("/api/jobs/", BEARER), ("/api/jobs/", {}), ("/nothing", BEARER)):
        said = (await locked.client.get(path, headers=headers)).headers
        assert said["x-content-type-options"] == "nosniff"
        assert said["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert said["referrer-policy"] == "same-origin"
        assert (said["x-frame-options"], said["cache-control"]) == ("DENY", "no-store")

    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("api.services.jobs.get", crash)
    async with serving(service_settings, raise_app_exceptions=False) as service:
        crashed = await service.client.get(f"/api/jobs/{NOBODY}")
    assert (crashed.status_code, crashed.headers["x-content-type-options"]) == (500, "nosniff")


async def test_the_documentation_runs_its_own_script_and_the_viewer_alone(service: Service) -> None:
    for path in ("/docs", "/redoc"):
        page = await service.client.get(path)
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert "unsafe" not in policy["script-src"]
        for source in re.findall(r'<script src="([^"]+)"', page.text):
            assert source.startswith(policy["script-src"].split()[0])
            assert re.search(r"@\d+\.\d+\.\d+/", source)
        assert page.text.count("<script>") == policy["script-src"].count("'sha256-")


async def test_long_answers_are_compressed_and_what_streams_or_is_dense_is_not(service: Service) -> None:
    document = await service.client.get("/openapi.json")
    assert document.headers["content-encoding"] == "gzip"
    plain = await service.client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert int(document.headers["content-length"]) * 4 < len(plain.content)
    model = await service.model()
    file = await service.client.get(f"/api/models/{model['id']}/file")
    assert (file.status_code, len(file.content) > 1000, "content-encoding" in file.headers) == (200, True, False)
    job = (await service.training())["id"]
    async with over_http(service.settings) as client, client.stream("GET", f"/api/progress/stream/{job}") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in events.headers
