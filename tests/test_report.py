"""`masuka report`: what helps, and no secret, though every one was planted in every log."""

import json
import zipfile
from pathlib import Path

import pytest
from pydantic import SecretStr

from api import doctor, report
from api.settings import Settings
from tests.service import with_values

pytestmark = pytest.mark.timeout(180)  # much of what it asks for is not there

PLANTED = {
    "hf_token": SecretStr("hf_plantedTokenOfTheHub"),
    "masuka_api_token": SecretStr('planted-"quoted"-token'),
    "aws_access_key_id": "PLANTEDACCESSKEY",
    "aws_secret_access_key": SecretStr("planted-secret-key"),
    "redis_url": "redis://:planted-redis-password@127.0.0.1:9",
}
NEEDLES = (
    *("hf_plantedTokenOfTheHub", 'planted-"quoted"-token', "PLANTEDACCESSKEY", "planted-secret-key"),
    "planted-redis-password",
)


def test_every_secret_of_every_log_and_answer_is_stars(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT_SECONDS", 0.5)
    logs = settings.masuka_data_dir / "logs"
    logs.mkdir(parents=True)
    told = "".join(f"a line with {value} and {json.dumps(value)}\n" for value in NEEDLES)
    (logs / "api.log").write_text("old\n" + "x" * report.LOG_BYTES + "\n" + told)
    file = tmp_path / "report.zip"
    names = report.write(with_values(settings, masuka_port=9, **PLANTED), file)
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert names == list(parts)
    assert [(name, needle) for name, text in parts.items() for needle in (*NEEDLES, "quoted") if needle in text] == []
    assert parts["logs/api.log"].count("a line with ***") == len(NEEDLES)
    assert "old" not in parts["logs/api.log"]
    assert "HF_TOKEN" in json.loads(parts["about.json"])["settings"]
    assert "does not answer" in json.loads(parts["ready.json"])["error"]
    checks = {check["name"]: check["status"] for check in json.loads(parts["doctor.json"])}
    assert checks["Redis"] == "failed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "report.zip"]


def test_the_longest_secret_comes_first(settings: Settings) -> None:
    secret = with_values(settings, hf_token=SecretStr("abcdef"), ngrok_auth_token=SecretStr("abcdefghi"))
    assert report.secrets_of(secret) == ["abcdefghi", "abcdef"]
