"""What the demo says when its LoRA does nothing, which no real training would bring about."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from api.cli import app
from api.commands import demo


class NoService:
    url = "http://127.0.0.1:1"
    stopped = False

    def stop(self) -> None:
        self.stopped = True


class NoApi:
    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def wait_ready(self, _seconds: float) -> None: ...


def test_a_lora_that_changes_nothing_is_an_error_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = tmp_path / "same.png"
    Image.new("RGB", (8, 8)).save(same)
    service = NoService()
    monkeypatch.setattr(demo, "install_all", lambda *_: None)
    monkeypatch.setattr(demo, "start_service", lambda *_: service)
    monkeypatch.setattr(demo, "Api", NoApi)
    monkeypatch.setattr(demo, "_main_job", lambda *_: demo.Result(same, same, tmp_path / "lora", {}, None))

    told = CliRunner().invoke(app, ["demo"], env={"MASUKA_DATA_DIR": str(tmp_path)})

    assert told.exit_code == 1
    assert "The LoRA changed nothing." in told.stderr
    assert "See the service's log." in told.stderr
    assert "Traceback" not in told.output
    assert service.stopped
