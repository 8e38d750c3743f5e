"""The door: the token, and browsers that only pretend to come from us."""

from collections.abc import AsyncIterator

import pytest
import structlog
from pydantic import SecretStr

from api.settings import Settings
from tests.service import NOBODY, Service, assert_problem, serving, with_values

TOKEN = "a-long-secret-of-the-owner"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def locked(service_settings: Settings) -> AsyncIterator[Service]:
    async with serving(with_values(service_settings, masuka_api_token=SecretStr(TOKEN))) as opened:
        yield opened


def _requests(service: Service) -> list[tuple[str, str]]:
    """Every operation there is, the documentation, and a path that does not exist."""
    paths = service.app.openapi()["paths"]
    known = [(method.upper(), path.replace("{any_id}", NOBODY)) for path, item in paths.items() for method in item]
    return [*known, ("GET", "/docs"), ("GET", "/redoc"), ("GET", "/openapi.json"), ("GET", "/nothing")]


async def test_without_the_token_nothing_but_health_answers(locked: Service) -> None:
    requests = _requests(locked)
    assert len(requests) > 25
    for method, path in requests:
        response = await locked.client.request(method, path)
        if path == "/health":
            assert response.status_code == 200
        else:
            assert_problem(response, 401, "token_invalid")
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    ["", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ключ"],
)
async def test_a_wrong_token_is_refused_and_not_repeated(locked: Service, header: str) -> None:
    response = await locked.client.get("/api/jobs/", headers=[(b"Authorization", header.encode())])
    assert_problem(response, 401, "token_invalid")
    assert TOKEN not in response.text


async def test_with_the_token_every_host_may_ask(locked: Service) -> None:
    for host in ("127.0.0.1:8000", "example.ngrok.app", "192.168.1.7:8000"):
        response = await locked.client.get("/api/jobs/", headers={**BEARER, "Host": host})
        assert response.status_code == 200
    assert (await locked.client.get("/api/jobs/", headers={"Authorization": f"bearer {TOKEN}"})).status_code == 200


@pytest.mark.parametrize("path", ["/health/", "//health", "/health/../api/jobs/", "/Health", "/health%2f"])
async def test_only_health_itself_is_open(locked: Service, path: str) -> None:
    assert_problem(await locked.client.get(f"http://127.0.0.1{path}"), 401, "token_invalid")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9999", "localhost:8000", "[::1]:8000", "LOCALHOST"])
async def test_without_a_token_this_machine_may_ask(service: Service, host: str) -> None:
    assert (await service.client.get("/api/jobs/", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.7", "", "["]
)
async def test_without_a_token_a_name_that_leads_here_is_refused(service: Service, host: str) -> None:
    """DNS rebinding: the browser thinks it talks to the page's own site."""
    assert_problem(await service.client.get("/api/jobs/", headers={"Host": host}), 403, "host_not_allowed")


async def test_hosts_that_were_allowed_may_be_named(service_settings: Settings) -> None:
    async with serving(with_values(service_settings, masuka_allowed_hosts=["box.local"])) as service:
        assert (await service.client.get("/ready", headers={"Host": "Box.local:8000"})).status_code in (200, 503)
        assert_problem(await service.client.get("/ready", headers={"Host": "other.local"}), 403, "host_not_allowed")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://[",
        "http://localhost:8000.evil.example",
        "localhost:8000",
        "http://x@",
    ],
)
async def test_a_web_page_of_another_origin_is_refused(service: Service, locked: Service, origin: str) -> None:
    headers = {"Host": "localhost:8000", "Origin": origin}
    for method, path in (("POST", "/api/generate/image"), ("GET", "/api/jobs/")):
        assert_problem(await service.client.request(method, path, headers=headers), 403, "origin_not_allowed")
        response = await locked.client.request(method, path, headers={**headers, **BEARER})
        assert_problem(response, 403, "origin_not_allowed")


async def test_a_page_of_our_own_may_ask(service: Service) -> None:
    headers = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert (await service.client.get("/api/jobs/", headers=headers)).status_code == 200


async def test_no_secret_is_in_any_answer(service_settings: Settings) -> None:
    secrets = {"masuka_api_token": TOKEN, "hf_token": "hf_very_secret", "ngrok_auth_token": "ngrok_very_secret"}
    values = {name: SecretStr(value) for name, value in secrets.items()}
    async with serving(with_values(service_settings, **values), raise_app_exceptions=False) as service:
        for method, path in _requests(service):
            response = await service.client.request(method, path, headers=BEARER)
            assert not [secret for secret in secrets.values() if secret in response.text]


async def test_a_crash_tells_the_client_nothing_of_the_inside(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of /very/private")

    monkeypatch.setattr("api.services.jobs.get", crash)
    async with serving(service_settings, raise_app_exceptions=False) as service:
        with structlog.testing.capture_logs() as logged:
            response = await service.client.get(f"/api/jobs/{NOBODY}")
    assert [(line["event"], str(line["exc_info"])) for line in logged] == [
        ("request_crashed", "a secret of /very/private")
    ]
    assert_problem(response, 500, "internal_error")
    assert not [
        word for word in ("inside", "RuntimeError", ".py") if word in response.text.replace("inside MASUKA", "")
    ]
