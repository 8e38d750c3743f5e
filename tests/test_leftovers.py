"""What a killed supervisor has left, and what only looks like it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import leftovers
from api.errors import ConfigError
from api.leftovers import end_leftovers, write_down

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
OBEDIENT = "import time; print(flush=True); time.sleep(60)"
Child = subprocess.Popen[bytes]


def told(name: str, line: str) -> None:
    assert name == "worker"
    assert "left behind" in line


def nothing_told(name: str, line: str) -> None:
    raise AssertionError((name, line))


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[Child]:
    process = subprocess.Popen([sys.executable, "-c", request.param], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever really left it behind is gone, and init collects it
    yield process
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process.stdout.close()
    process.returncode = 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def is_gone(child: Child) -> bool:
    return not Path(f"/proc/{child.pid}").exists()


@pytest.mark.parametrize("child", [OBEDIENT], indirect=True)
def test_a_frozen_one_is_ended(tmp_path: Path, child: Child) -> None:
    write_down(tmp_path / "run" / "worker.json", child.pid)
    os.kill(child.pid, signal.SIGSTOP)

    end_leftovers(tmp_path / "run", told)

    assert is_gone(child)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("child", [DEAF], indirect=True)
def test_one_that_does_not_listen_is_killed(tmp_path: Path, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.1)
    write_down(tmp_path / "run" / "worker.json", child.pid)

    end_leftovers(tmp_path / "run", told)

    assert is_gone(child)


@pytest.mark.parametrize("child", [DEAF], indirect=True)
def test_one_that_even_a_kill_does_not_end_is_said(
    tmp_path: Path, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(leftovers, "KILLED_SECONDS", 0.1)
    monkeypatch.setattr(os, "killpg", lambda _pid, _signal: None)  # as if it waited inside the kernel
    record = tmp_path / "run" / "worker.json"
    write_down(record, child.pid)

    with pytest.raises(ConfigError) as caught:
        end_leftovers(tmp_path / "run", told)

    assert (caught.value.code, caught.value.value) == ("leftover_stuck", f"process {child.pid}")
    assert record.exists()


@pytest.mark.parametrize("child", [OBEDIENT], indirect=True)
@pytest.mark.parametrize("other", [{"start": 1}, {"boot_id": "another"}])
def test_another_process_with_its_number_is_left_alone(tmp_path: Path, child: Child, other: dict[str, object]) -> None:
    record = tmp_path / "run" / "worker.json"
    write_down(record, child.pid)
    record.write_text(json.dumps({**json.loads(record.read_text()), **other}))

    end_leftovers(tmp_path / "run", nothing_told)

    assert not is_gone(child)
    assert not record.exists()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"pid": 1}'])
def test_half_a_record_is_removed(tmp_path: Path, text: str) -> None:
    (tmp_path / "worker.json").write_text(text)

    end_leftovers(tmp_path, nothing_told)

    assert list(tmp_path.iterdir()) == []


def test_without_records_there_is_nothing_to_do(tmp_path: Path) -> None:
    end_leftovers(tmp_path / "run", nothing_told)
