"""The notebook's cells, top to bottom, on the real engines: twice, and once more after its machine was lost."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from api.bind import base_url, free_port
from api.client import Api
from api.settings import PROJECT_ROOT
from tests.colab.kernel import CELLS, Kernel, kernel
from tests.servers import S3Server, s3_server
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]

PICTURES = 8
WAIT_SECONDS = 240
TOKEN = "the-token-of-the-owner-of-the-notebook"
SHORT = {"steps": 4, "rank": 4, "alpha": 4, "checkpoint_interval": 4, "sample_steps": 1}
LONG = {"steps": 60, "rank": 4, "alpha": 4, "checkpoint_interval": 10, "sample_prompts": []}
DRAWN: dict[str, Any] = {"STEPS": 2, "PROMPT": "a photo of ohwx", "SEED": 5}
AGAIN: list[dict[str, Any]] = [{"BASE_MODEL": "flux-tiny"}, {"NAME": "star", "MORE": SHORT}, DRAWN, {}]


@dataclass(frozen=True)
class Colab:
    """The user's account, which outlives every machine: Secrets, and a bucket elsewhere."""

    folder: Path
    engines_dir: Path
    bucket: S3Server
    port: int

    @property
    def data_dir(self) -> Path:
        """On the disk of the machine."""
        return self.folder / "data"

    @property
    def env(self) -> dict[str, str]:
        return {
            "COLAB_STAND_IN": str(self.folder / "colab.json"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "MASUKA_DATA_DIR": str(self.data_dir),
            "MASUKA_ENGINES_DIR": str(self.engines_dir),
            "MASUKA_PORT": str(self.port),
        }

    @property
    def keys(self) -> dict[str, str]:
        """In Colab's Secrets."""
        return {
            "S3_BUCKET_NAME": self.bucket.bucket,
            "S3_ENDPOINT_URL": self.bucket.endpoint,
            "AWS_ACCESS_KEY_ID": self.bucket.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.bucket.secret_access_key,
            "MASUKA_API_TOKEN": TOKEN,
        }

    def api(self) -> Api:
        return Api(base_url("127.0.0.1", self.port), TOKEN)

    def processes(self) -> list[psutil.Process]:
        """Of ours on the machine, the notebook's kernels aside."""
        return [each for each in psutil.process_iter() if _is_of(each, self.data_dir)]

    def is_frozen(self, name: str) -> bool:
        """Whether a training checkpoint of it is stored; its trainer then stands still, and does not end meanwhile."""
        with self.api() as api:
            found = [each["id"] for each in api.get("/api/training/")["items"] if each["name"] == name]
            if not found or not api.get(f"/api/training/{found[0]}")["checkpoints"]:
                return False
        for runner in self.processes():
            if "api.trainer.runner" in _words(runner):
                for trainer in runner.children(recursive=True):
                    trainer.suspend()
        return True

    def is_backed_up(self) -> bool:
        """With a training checkpoint of the one that runs: the other one has kept its last."""
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "restore", "--list", "--json"],
            cwd=PROJECT_ROOT,
            env={**os.environ, **self.env, **self.keys},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode == 0 and any(found["checkpoints"] > 1 for found in json.loads(done.stdout))

    def services(self) -> list[int]:
        return [each.pid for each in self.processes() if _words(each)[-1:] == ["up"]]

    def lose_the_machine(self) -> None:
        """kill -9 of every process, twice for one that was starting another; and nothing is left of the disk."""
        for _ in range(2):
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    for each in (*process.children(recursive=True), process):
                        each.kill()
            psutil.wait_procs(self.processes(), 10)
        if self.data_dir.exists():
            self.data_dir.rename(self.folder / f"gone-{uuid4().hex}")


def _is_of(process: psutil.Process, data_dir: Path) -> bool:
    try:
        words = " ".join(process.cmdline())
        return "ipykernel" not in words and (
            process.environ().get("MASUKA_DATA_DIR") == str(data_dir) or str(data_dir) in words
        )
    except psutil.Error:
        return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def colab(tmp_path: Path, engines_dir: Path, photos: Path) -> Iterator[Colab]:
    with s3_server() as bucket:
        found = Colab(tmp_path, engines_dir, bucket, free_port("127.0.0.1"))
        browser = tmp_path / "browser"
        browser.mkdir()
        for each in sorted(photos.iterdir())[: 2 * PICTURES]:
            shutil.copy(each, browser)
        account = {
            "secrets": found.keys,
            "locked": ["HF_TOKEN"],
            "proxy": "https://{port}-colab.example",
            "browser": str(browser),
        }
        (tmp_path / "colab.json").write_text(json.dumps(account))
        yield found
        found.lose_the_machine()


async def test_it_runs_twice_and_once_more_when_its_machine_is_gone(colab: Colab) -> None:
    here = PROJECT_ROOT / "scripts" / "colab"
    async with kernel(here, colab.env) as notebook:
        said = await notebook.run("set-up", BASE_MODEL="flux-tiny")
        _is_ready(said, colab)
        said = await notebook.run_until("train", lambda shown: "Training star  " in shown, NAME="star", MORE=SHORT)
        assert "Training star goes on. Run this cell again" in said
        said = await notebook.run("train", NAME="star", MORE=SHORT)
        assert notebook.kinds("train").count("image/png") >= 1
        assert "uploaded" not in said
        await notebook.run("generate", **DRAWN)
        assert "<img " in str(notebook.client.nb.cells[5].outputs)
        await notebook.run("debug", REPORT=True)
        _has_debugged(notebook)
        first = await _state(notebook)
    service = colab.services()
    assert len(service) == 1
    assert _done(colab) == [f"uploaded {2 * PICTURES}", f"downloaded {colab.data_dir}/notebook/masuka-report.zip"]

    async with kernel(here, colab.env) as notebook:
        for name, fields in zip(CELLS, AGAIN, strict=True):
            await notebook.run(name, **fields)
        assert "runs already" in notebook.shown("set-up")
        assert await _state(notebook) == first
        assert colab.services() == service
        await notebook.run_until("train", lambda _: colab.is_frozen("moon"), NAME="moon", MORE=LONG)
        pictures = await notebook.value("masuka.pictures()")
    await until(colab.is_backed_up, WAIT_SECONDS, every=0.5)
    colab.lose_the_machine()

    async with kernel(here, colab.env) as notebook:
        assert "Restored " in await notebook.run("set-up", BASE_MODEL="flux-tiny")
        await notebook.run("train", NAME="moon", MORE=LONG)
        session = await notebook.value("session")
        assert (session["status"], session["job"]["attempt"]) == ("completed", 2)
        said = await notebook.run("generate", ACTION="list")
        assert [each for each in pictures if each not in said] == []
        await notebook.run("debug")
        await notebook.run("train", NAME="star", MORE=SHORT)
        assert await _state(notebook) == first


def _is_ready(said: str, colab: Colab) -> None:
    assert f"✓ Address      https://{colab.port}-colab.example" in said
    assert f"https://{colab.port}-colab.example/door?key=" in said
    assert "S3_BUCKET_NAME" in said
    assert "HF_TOKEN," not in said
    assert TOKEN not in said


def _has_debugged(notebook: Kernel) -> None:
    said = notebook.shown("debug")
    for words in (
        "masuka doctor",
        "/ready: ",
        '"worker_gpu": {',
        "completed  4/4  star",
        "worker-gpu.log, its end",
        "The report",
    ):
        assert words in said, said
    shown = str(notebook.client.nb)
    assert [secret for secret in (TOKEN, S3Server.secret_access_key) if secret in shown] == []


async def _state(notebook: Kernel) -> dict[str, Any]:
    """What a second run must not change."""
    session = await notebook.value("session")
    return {"session": session["id"], "dataset": session["dataset_id"], "steps": session["current_step"]}


def _done(colab: Colab) -> list[str]:
    return (colab.folder / "colab.json.done").read_text().splitlines()
