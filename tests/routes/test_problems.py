"""Errors that no request is to blame for."""

import pytest
from sqlalchemy.exc import DataError, IntegrityError
from structlog.testing import capture_logs

from api.errors import StorageError
from api.routes.problems import SHOWN_CHARACTERS, Problem, problem, show
from api.services import jobs
from api.settings import Settings
from tests.servers import postgres_server
from tests.service import NOBODY, assert_problem, serving, with_values


async def test_a_database_that_is_gone_is_said_to_be_away(service_settings: Settings) -> None:
    with postgres_server() as server:
        server.run("CREATE DATABASE masuka")
        settings = with_values(service_settings, database_url=server.url("masuka"))
        async with serving(settings, raise_app_exceptions=False) as service:
            assert (await service.client.get("/api/jobs/")).status_code == 200
            server.process.kill()
            server.process.wait()
            for path in ("/api/jobs/", f"/api/jobs/{NOBODY}", f"/api/progress/stream/{NOBODY}"):
                problem = assert_problem(await service.client.get(path), 503, "database_unavailable")
                assert str(server.socket_dir) not in str(problem)
            response = await service.client.get("/ready")
            assert (response.status_code, response.json()["parts"]["database"]["ok"]) == (503, False)
            assert (await service.client.get("/health")).status_code == 200


async def test_a_database_that_takes_no_connection_now_is_away_until_it_does(service_settings: Settings) -> None:
    with postgres_server() as server:
        server.run("CREATE ROLE masuka LOGIN")
        server.run("CREATE DATABASE masuka OWNER masuka")
        url = server.url("masuka").replace("postgres@", "masuka@")
        async with serving(with_values(service_settings, database_url=url), raise_app_exceptions=False) as service:
            server.run("ALTER ROLE masuka CONNECTION LIMIT 0")
            server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'masuka'")
            assert_problem(await service.client.get("/api/jobs/"), 503, "database_unavailable")
            server.run("ALTER ROLE masuka CONNECTION LIMIT -1")
            assert (await service.client.get("/api/jobs/")).status_code == 200


@pytest.mark.parametrize("kind", [DataError, IntegrityError])
async def test_a_query_that_is_wrong_is_our_own_mistake(
    service_settings: Settings, kind: type[DataError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(*_: object) -> None:
        raise kind("SELECT secret", {}, Exception("no such thing"))

    monkeypatch.setattr(jobs, "get", wrong)
    async with serving(service_settings, raise_app_exceptions=False) as service:
        with capture_logs() as logged:
            response = await service.client.get(f"/api/jobs/{NOBODY}")
    assert_problem(response, 500, "internal_error")
    assert "SELECT" not in response.text
    assert [line["event"] for line in logged] == ["request_crashed"]


def test_a_storage_that_fails_says_so_with_its_own_code() -> None:
    found = problem(StorageError("The bucket is gone.", code="bucket_missing", value="mine", hint="Make it."))
    assert found == Problem(
        type="urn:masuka:problem:bucket_missing",
        title="Storage failed",
        status=503,
        code="bucket_missing",
        detail="The bucket is gone.",
        value="mine",
        hint="Make it.",
    )


def test_a_wrong_value_is_shown_short_and_in_valid_unicode() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    for value in ("x" * 10_000, {"k" * 5000: "v" * 5000}, deep, list(range(10_000)), 10**4000, b"\xff" * 999, "\ud800"):
        shown = show(value)
        assert len(shown) <= SHOWN_CHARACTERS + 1
        assert shown.encode()
    assert show("\ud800") == "?"
    assert (show(512), show(True), show(None), show("text"), show(1.5)) == ("512", "True", "None", "text", "1.5")
