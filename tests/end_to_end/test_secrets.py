"""Secrets are planted in every setting that has one, the service is driven, and broken; then everything is searched."""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine

from api.comfy import launch
from api.domain.engine import ComfyInstall, TrainerInstall
from api.engines import try_out, uv
from api.settings import PROJECT_ROOT, Settings, sqlalchemy_url
from api.trainer import simpletuner
from api.trainer.workdir import Workdir
from tests.end_to_end.service import Service, running_service
from tests.servers import valkey_server
from tests.tunnel.conftest import StandIn
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]

DATABASE_PASSWORD, REDIS_PASSWORD = "planted-database-password", "planted-redis-password"
KEY = base64.b64encode(b"planted-webhook-secret-of-32-byt").decode()
PLANTED = {
    "MASUKA_API_TOKEN": "planted-api-token-of-the-owner",
    "HF_TOKEN": "hf_plantedTokenOfTheHub",
    "NGROK_AUTH_TOKEN": "planted_ngrok_token",
    "MASUKA_WEBHOOK_SECRET": f"whsec_{KEY}",
    "MASUKA_WEBHOOK_URL": "http://127.0.0.1:9/planted-webhook-path?key=planted-webhook-key",
    "AWS_SECRET_ACCESS_KEY": "masuka-test-secret",
}
NEEDLES = [
    *(value for name, value in PLANTED.items() if name != "MASUKA_WEBHOOK_URL"),
    *("planted-webhook-path", "planted-webhook-key", KEY, DATABASE_PASSWORD, REDIS_PASSWORD),
]
BEARER = {"Authorization": f"Bearer {PLANTED['MASUKA_API_TOKEN']}"}


def planted_in(text: str) -> list[str]:
    return [needle for needle in NEEDLES if needle in text]


@pytest.fixture
def locked_redis() -> Iterator[str]:
    """REDIS_URL of a Valkey that wants a password."""
    with valkey_server() as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("requirepass", REDIS_PASSWORD)
        yield f"{server.url}?password={REDIS_PASSWORD}"


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "stand-in")


@pytest.fixture
def environment(stand_in: StandIn, locked_redis: str, postgres_url: str, empty_bucket: Settings) -> dict[str, str]:
    return {
        **PLANTED,
        "MASUKA_NGROK_PATH": str(stand_in.program),
        "MASUKA_HANG_SECONDS": "120",
        "DATABASE_URL": postgres_url.replace("postgres@", f"postgres:{DATABASE_PASSWORD}@"),
        "REDIS_URL": locked_redis,
        "S3_BUCKET_NAME": empty_bucket.s3_bucket_name,
        "S3_ENDPOINT_URL": empty_bucket.s3_endpoint_url,
        "AWS_ACCESS_KEY_ID": empty_bucket.aws_access_key_id,
    }


def test_every_setting_with_a_secret_is_planted() -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    assert secret == PLANTED.keys()


def test_no_secret_is_in_anything_that_is_written_told_or_shown(
    tmp_path: Path, engines_dir: Path, environment: dict[str, str], photos: Path
) -> None:
    data = tmp_path / "data"
    with running_service(data, engines_dir, environment, token=PLANTED["MASUKA_API_TOKEN"]) as service:
        told = _drive(service, photos)
        told += _examined(data, engines_dir, environment)
        told += [" ".join(one.cmdline()) for one in psutil.Process(service.process.pid).children(recursive=True)]
        told += _redis(environment["REDIS_URL"])
        rows = [row.replace(PLANTED["MASUKA_WEBHOOK_URL"], "") for row in _rows(environment["DATABASE_URL"])]
    told += rows  # a delivery needs its URL: that is the one thing that the database keeps, and shows nobody
    assert len(told) > 40
    assert [(text[:300], found) for text in told if (found := planted_in(text))] == []
    config = data / "tunnel" / "ngrok.yml"  # where ngrok reads its token, and nobody but the owner
    assert config.stat().st_mode & 0o777 == 0o600
    files = [path for path in data.rglob("*") if path.is_file() and path != config]
    assert {"up.log", "api.log", "tunnel.log", "worker-cpu.log"} <= {path.name for path in files}
    assert [(path.name, found) for path in files if (found := planted_in(path.read_text(errors="replace")))] == []


def _drive(service: Service, photos: Path) -> list[str]:
    """Use it rightly and wrongly; every answer, with its headers."""
    told: list[str] = []
    with httpx.Client(base_url=service.api.url, trust_env=False, timeout=60) as http:

        def ask(method: str, path: str, headers: Mapping[str, str] = BEARER, **options: Any) -> httpx.Response:
            answer = http.request(method, path, headers=dict(headers), **options)
            told.append(f"{path} {answer.headers} {answer.text}")
            return answer

        for headers in ({}, {"Authorization": "Bearer wrong"}, {**BEARER, "Origin": "https://evil.example"}):
            ask("GET", "/api/jobs/", headers)
        ask("POST", "/door", {}, data={"token": "wrong"})
        ask("POST", "/api/door/links")
        service.api.upload_dataset(photos, {"name": "star"})
        drawn = ask("POST", "/api/generate/image", json={"prompt": "x", "base_model": "flux-tiny"}).json()
        ask("POST", f"/api/jobs/{drawn['task_id']}/cancel")
        ask("POST", "/api/models/import", json={"repo": "nobody/nothing", "file": "a.safetensors"})
        ask("POST", "/api/models/import", json={"url": "https://127.0.0.1/a.safetensors"})
        ask("POST", "/api/generate/image", json={"prompt": "x", "webhook_url": "http://127.0.0.1:1/hook"})
        _until(lambda: "ngrok_token_invalid" in (service.data_dir / "up.log").read_text())
        _until(lambda: '"error' in ask("GET", "/api/webhooks/deliveries/").text)
        for path in ("/", "/ready", "/docs", "/openapi.json", "/api/jobs/", "/api/models/", "/api/datasets/"):
            ask("GET", path)
        for job in http.get("/api/jobs/", headers=BEARER).json()["items"]:
            ask("GET", f"/api/jobs/{job['id']}")
    return told


def _until(true: Callable[[], bool]) -> None:
    asyncio.run(until(true, 60))


def _examined(data: Path, engines_dir: Path, environment: Mapping[str, str]) -> list[str]:
    """What `masuka doctor` says of it, of broken servers, and of settings that cannot be."""
    broken = {
        "DATABASE_URL": f"postgresql://me:{DATABASE_PASSWORD}@127.0.0.1:9/x",
        "REDIS_URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:9",
        "S3_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    wrong = [
        {"DATABASE_URL": f"mysql://me:{DATABASE_PASSWORD}@host"},
        {"DATABASE_URL": f"postgresql://me:{DATABASE_PASSWORD}@host:port/x"},
        {"REDIS_URL": f"http://:{REDIS_PASSWORD}@host"},
        {"MASUKA_WEBHOOK_SECRET": KEY},
        {"MASUKA_WEBHOOK_URL": "planted-webhook-path"},
        {"MASUKA_PORT": "many"},
    ]
    clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
    ours = {"MASUKA_DATA_DIR": str(data), "MASUKA_ENGINES_DIR": str(engines_dir), "MASUKA_PORT": "0"}
    told = []
    for changes in ({}, broken, *wrong):
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "doctor", "--json"],
            cwd=PROJECT_ROOT,
            env={**clean, **ours, **environment, **changes},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode in (0, 1, 78), done.stderr
        told.append(done.stdout + done.stderr)
    return told


def _rows(url: str) -> list[str]:
    """Every row of every table."""

    async def read() -> list[str]:
        engine = create_async_engine(sqlalchemy_url(url))
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
            rows = [str(row) for name in names for row in await connection.execute(sa.text(f'SELECT * FROM "{name}"'))]
        await engine.dispose()
        return rows

    return asyncio.run(read())


def _redis(url: str) -> list[str]:
    """Every value of every key."""
    told = []
    with redis.Redis.from_url(url) as client:
        readers = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"stream": client.xrange,
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"list": lambda key: client.lrange(key, 0, -1),
        }
        for key in client.scan_iter():
            with contextlib.suppress(KeyError):
                told.append(f"{key!r} {readers[client.type(key)](key)!r}")
    return told


# ---- processes that are not ours -------------------------------------------------------------------------------------


def test_no_process_of_an_engine_is_given_a_secret(tmp_path: Path) -> None:
    ours = {**os.environ, **PLANTED, "DATABASE_URL": DATABASE_PASSWORD, "REDIS_URL": REDIS_PASSWORD}
    trainer = TrainerInstall(tmp_path, tmp_path / "python", "4.0.0", False)
    comfyui = ComfyInstall(tmp_path, tmp_path / "python", "1", False)
    given = {
        "trainer": simpletuner.environment(trainer, Workdir(tmp_path), job_id="1", inherited=ours),
        "ComfyUI": launch.environment(comfyui, ours, 2),
        "trial": try_out.environment(ours),
        "uv": uv.environment(ours),
    }
    assert [(name, found) for name, env in given.items() if (found := planted_in(json.dumps(env)))] == []
