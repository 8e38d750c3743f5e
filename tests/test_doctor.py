"""`masuka doctor` finds what is wrong for real, and says what to do."""

import asyncio
import json
import socket
from pathlib import Path
from uuid import UUID

import pytest
import redis

from api import doctor
from api.backup.place import open_place
from api.doctor import Check
from api.domain.gpu_gate import GpuGate, Use
from api.domain.job import Kind, Queue
from api.models.base import utcnow
from api.services.workers import pulse_key
from api.settings import Settings
from tests.backup.homes import home


def found(settings: Settings, name: str) -> Check:
    (check,) = (check for check in doctor.examine(settings) if check.name == name)
    return check


def with_settings(settings: Settings, **changes: object) -> Settings:
    return Settings(_env_file=None, **{**settings.model_dump(exclude_defaults=True), **changes})


def test_a_good_installation_has_no_failures(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    checks = doctor.examine(with_settings(settings, masuka_port=port))
    assert [check for check in checks if check.status == "failed"] == []
    names = {check.name for check in checks}
    assert {
        "Python",
        "disk",
        "comfyui",
        "simpletuner",
        "flux-tiny",
        "flux-dev",
        "Redis",
        "database",
        "storage",
    } <= names
    assert {"port", "API token", "Hugging Face"} <= names


def test_every_check_that_is_not_ok_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    checks = doctor.examine(with_settings(settings, masuka_engines_dir=tmp_path / "empty"))
    assert [check.name for check in checks if check.status != "ok" and not check.remedy] == []


@pytest.mark.parametrize("engine", ["comfyui", "simpletuner"])
def test_a_missing_engine_is_a_failure_that_names_the_command(settings: Settings, tmp_path: Path, engine: str) -> None:
    check = found(with_settings(settings, masuka_engines_dir=tmp_path / "empty"), engine)
    assert check.status == "failed"
    assert f"masuka install {engine}" in check.remedy


def test_a_captioner_is_not_missed_but_its_command_is_told(settings: Settings, tmp_path: Path) -> None:
    check = found(with_settings(settings, masuka_engines_dir=tmp_path / "empty"), "joycaption")
    assert check.status == "ok"
    assert "`masuka install joycaption`. Needs 18 GB" in check.remedy


def test_a_port_in_use_is_a_failure(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        check = found(with_settings(settings, masuka_port=other.getsockname()[1]), "port")
    assert check.status == "failed"
    assert "MASUKA_PORT" in check.remedy


def test_servers_that_do_not_answer_are_failures_without_their_secrets(settings: Settings) -> None:
    broken = with_settings(
        settings,
        database_url="postgresql://me:hunter2@127.0.0.1:1/masuka",
        redis_url="redis://:hunter2@127.0.0.1:1",
        s3_bucket_name="bucket",
        s3_endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="id",
        aws_secret_access_key="hunter2",
    )
    checks = {check.name: check for check in doctor.examine(broken)}
    for name in ("database", "Redis", "storage"):
        assert checks[name].status == "failed"
        assert checks[name].remedy
    assert "hunter2" not in str(checks.values())


def test_a_bucket_is_really_written_and_read_back(settings: Settings, s3_settings: Settings) -> None:
    check = found(
        with_settings(
            settings,
            **s3_settings.model_dump(
                include={"s3_bucket_name", "s3_region", "s3_endpoint_url", "aws_access_key_id", "aws_secret_access_key"}
            ),
        ),
        "storage",
    )
    assert check.status == "ok"
    assert "read back" in check.found


def test_backups_are_told_of_by_the_age_of_the_newest(settings: Settings, tmp_path: Path) -> None:
    assert "none make themselves" in found(settings, "backups").found
    kept = with_settings(settings, masuka_backup_dir=tmp_path / "backups")
    assert found(kept, "backups").found == f"{tmp_path / 'backups'}: none yet"
    asyncio.run(_back_up(kept))
    assert f": the newest is of {utcnow():%Y-%m-%d}" in found(kept, "backups").found


def test_backups_that_another_installation_is_in_the_way_of_are_a_failure(settings: Settings, tmp_path: Path) -> None:
    kept = with_settings(settings, masuka_backup_dir=tmp_path / "backups")
    asyncio.run(_back_up(with_settings(kept, masuka_data_dir=tmp_path / "another")))
    check = found(kept, "backups")
    assert check.status == "failed"
    assert "masuka restore" in check.remedy


async def _back_up(settings: Settings) -> None:
    async with home(settings) as here, open_place(here.settings, here.storage, None) as place:
        await here.back_up(place)


def test_a_bind_beyond_loopback_without_a_token_is_a_failure(settings: Settings) -> None:
    check = found(with_settings(settings, masuka_host="0.0.0.0"), "API token")
    assert check.status == "failed"
    assert "MASUKA_API_TOKEN" in check.remedy


def test_a_running_service_tells_who_holds_the_gpu(
    settings: Settings, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_answers", lambda _: True)
    with_redis = with_settings(settings, redis_url=valkey_url)
    assert found(with_redis, "GPU use").found == "no GPU worker gives a sign of life"
    gate = GpuGate()
    gate.enter(Use(UUID(int=7), Kind.TRAINING))
    with redis.Redis.from_url(valkey_url) as client:
        client.set(pulse_key(Queue.GPU), json.dumps({"gpu": gate.state()}))

    assert found(with_redis, "GPU use").found == f"alone: training {UUID(int=7)}"
