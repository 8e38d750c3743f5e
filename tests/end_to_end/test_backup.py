"""Everything of an installation is destroyed in the middle of a training, and it goes on in another place."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from api.client import Api
from api.settings import PROJECT_ROOT, Settings
from tests.end_to_end.conftest import TRAINING
from tests.end_to_end.service import SIZE, pixels
from tests.servers import PostgresServer
from tests.up_process import Up, environment, started
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

STEPS = 30
WAIT_SECONDS = 240


@dataclass(frozen=True)
class Move:
    """From one installation to another that has nothing in common with it but what the environment names."""

    here: Settings
    there: Settings
    env: Mapping[str, str]
    """Of both."""
    env_here: Mapping[str, str]
    env_there: Mapping[str, str]
    words: tuple[str, ...]
    """Where the backups are, for the commands."""


@pytest.fixture(params=["SQLite, a bucket", "PostgreSQL, a folder"])
def move(request: pytest.FixtureRequest, tmp_path: Path, engines_dir: Path) -> Iterator[Move]:
    here, there = (
        Settings(_env_file=None, masuka_data_dir=tmp_path / name, masuka_engines_dir=engines_dir)
        for name in ("here", "there")
    )
    if request.param == "SQLite, a bucket":
        bucket: Settings = request.getfixturevalue("empty_bucket")
        env = {
            "S3_BUCKET_NAME": bucket.s3_bucket_name,
            "S3_ENDPOINT_URL": bucket.s3_endpoint_url,
            "AWS_ACCESS_KEY_ID": bucket.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": bucket.aws_secret_access_key.get_secret_value(),
        }
        yield Move(here, there, env, {}, {}, ())
        return
    postgres: PostgresServer = request.getfixturevalue("_postgres")
    names = ("backup_here", "backup_there")
    for name in names:
        postgres.run(f"CREATE DATABASE {name}")
    env_here, env_there = ({"DATABASE_URL": postgres.url(name)} for name in names)
    yield Move(here, there, {}, env_here, env_there, (str(tmp_path / "backups"),))
    for name in names:
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_machine_that_is_gone_in_the_middle_of_a_training(move: Move, photos: Path, tmp_path: Path) -> None:
    env = {**move.env, **move.env_here}
    with started(move.here, **env) as up:
        await up.ready()
        with Api(f"http://127.0.0.1:{up.port}") as api:
            drawn = api.post("/api/generate/image", {**SIZE, "prompt": "a red circle", "seed": 5})
            assert list(api.follow(drawn["asset_id"]))[-1]["status"] == "completed"
            before = api.download(f"/api/assets/{drawn['asset_id']}/file", tmp_path / "before.png")
            dataset = api.upload_dataset(photos, {"name": "star"})
            session = api.post("/api/training/flux", {"dataset_id": dataset["id"], **TRAINING, "steps": STEPS})
            await until(lambda: _checkpoints(api, session["id"]), WAIT_SECONDS, every=0.2)
            _freeze_trainer(move.here)  # so that it is in the middle, however long a backup takes
            await until(lambda: _is_backed_up(move, env), WAIT_SECONDS, every=0.5)
        _destroy(move.here, up)

    restored = _masuka(move.there, {**move.env, **move.env_there}, "restore", *move.words, "--json")
    assert restored["missing"] == []

    with started(move.there, **move.env, **move.env_there) as up:
        await up.ready()
        with Api(f"http://127.0.0.1:{up.port}") as api:
            told = list(api.follow(session["id"]))
            assert told[-1]["status"] == "completed", told[-1]
            after = api.download(f"/api/assets/{drawn['asset_id']}/file", tmp_path / "after.png")
            (model,) = api.get("/api/models/")["items"]
            job = api.get(f"/api/jobs/{session['task_id']}")
            with_lora = api.post("/api/generate/image", {**SIZE, "prompt": "ohwx", "model_id": model["id"]})
            assert list(api.follow(with_lora["asset_id"]))[-1]["status"] == "completed"

    assert pixels(after) == pixels(before)
    assert model["training_session_id"] == session["id"]
    assert job["attempt"] == 2
    assert min(said["step"] for said in told if said["stage"] == "training") >= TRAINING["checkpoint_interval"], (
        "the training began anew"
    )


def _checkpoints(api: Api, session_id: str) -> list[dict[str, Any]]:
    return list(api.get(f"/api/training/{session_id}")["checkpoints"])


def _is_backed_up(move: Move, env: Mapping[str, str]) -> bool:
    """With a training checkpoint. A bucket is written to by the service itself, a folder is when we say so."""
    if move.words:
        _masuka(move.here, env, "backup", *move.words, "--json")
        return True
    done = _run(move.here, env, "restore", "--list", "--json")
    return done.returncode == 0 and any(found["checkpoints"] for found in json.loads(done.stdout))


def _masuka(settings: Settings, env: Mapping[str, str], *words: str) -> Any:
    done = _run(settings, env, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _run(settings: Settings, env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api.cli", *words]
    whole = environment(settings, **env)
    return subprocess.run(command, cwd=PROJECT_ROOT, env=whole, capture_output=True, text=True, check=False)


def _freeze_trainer(settings: Settings) -> None:
    (runner,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "api.trainer.runner" in (words := process.info["cmdline"] or [])
        and str(settings.masuka_data_dir) in " ".join(words)
    ]
    for process in (*runner.children(recursive=True), runner):
        process.suspend()


def _destroy(settings: Settings, up: Up) -> None:
    """kill -9 of every process, and nothing is left of the disk."""
    up.process.kill()
    _each_of(settings, psutil.Process.kill)
    up.process.wait()
    gone = settings.masuka_data_dir.with_name("gone")
    settings.masuka_data_dir.rename(gone)


def _each_of(settings: Settings, act: Callable[[psutil.Process], None]) -> None:
    """Twice: one that was starting another when it was looked at."""
    for _ in range(2):
        for process in psutil.process_iter():
            try:
                if process.environ().get("MASUKA_DATA_DIR") == str(settings.masuka_data_dir) or str(
                    settings.masuka_data_dir
                ) in " ".join(process.cmdline()):
                    act(process)
            except psutil.Error:
                continue
