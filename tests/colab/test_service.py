"""`masuka up` behind a notebook: one, with the keys of now, for as long as the machine lives. Here it is a stand-in."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.bind import base_url, free_port
from api.colab import service
from api.colab.client import Api
from api.colab.errors import NotebookError
from api.colab.service import Service, ensure, print_of
from api.processes import process_start
from tests.waiting import until

UP = """#!{python}
import http.server, json, os, sys, threading
if os.environ.get("HF_TOKEN") == "broken":
    sys.exit("masuka: something is wrong")

class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        ready = Handler.asked > 2
        body = json.dumps({{"ready": ready, "parts": {{"worker_gpu": {{"ok": ready}}}}}}).encode()
        foreign = os.environ.get("HF_TOKEN") == "foreign"
        self.send_response(401 if foreign else 200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Service]:
    port = free_port("127.0.0.1")
    program = tmp_path / ".venv" / "bin" / "masuka"
    program.parent.mkdir(parents=True)
    program.write_text(UP.format(python=sys.executable, port=port))
    program.chmod(0o755)
    here = Service(tmp_path, tmp_path / "data", Api(base_url("127.0.0.1", port), "token"))
    yield here
    running = service._recorded(here)
    if running is not None:
        os.kill(running["pid"], signal.SIGKILL)


def pid(found: Service) -> int:
    running = service._recorded(found)
    assert running is not None
    return int(running["pid"])


def env(**keys: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **keys}


def test_it_is_started_once_waited_for_and_found_again(found: Service) -> None:
    said: list[str] = []
    assert ensure(found, env(HF_TOKEN="planted"), said.append) is True
    assert said[0] == "starting"
    assert "waiting for worker gpu" in said
    first = pid(found)
    assert os.getsid(first) != os.getsid(0), "it would end with the kernel"
    assert ensure(found, env(HF_TOKEN="planted", MASUKA_ALLOWED_HOSTS="x.example"), said.append) is False
    assert pid(found) == first
    assert "planted" not in found.record.read_text()
    assert found.record.stat().st_mode & 0o777 == 0o600


def test_other_keys_take_another_one(found: Service) -> None:
    ensure(found, env(), lambda _: None)
    first = pid(found)
    said: list[str] = []
    assert ensure(found, env(HF_TOKEN="new"), said.append) is True
    assert said[0].startswith("stopping the one with other keys")
    assert (process_start(first), pid(found) == first) == (None, False)
    assert found.log.with_suffix(".log.1").exists()


async def test_one_that_was_killed_is_started_again(found: Service) -> None:
    ensure(found, env(), lambda _: None)
    os.kill(pid(found), signal.SIGKILL)
    await until(lambda: service._recorded(found) is None)
    assert ensure(found, env(), lambda _: None) is True


def test_one_that_ends_at_once_says_why(found: Service) -> None:
    with pytest.raises(NotebookError, match="The service ended:\nmasuka: something is wrong"):
        ensure(found, env(HF_TOKEN="broken"), lambda _: None)


def test_what_is_not_ours_is_left_alone(found: Service) -> None:
    with pytest.raises(NotebookError) as caught:
        ensure(found, env(HF_TOKEN="foreign"), lambda _: None)
    assert caught.value.code == "not_ours"


def test_the_print_is_of_settings_and_code_and_nothing_else() -> None:
    plain = print_of({"MASUKA_PORT": "1", "HOME": "/root"}, "abc")
    assert plain == print_of({"MASUKA_PORT": "1", "TERM": "x", "MASUKA_CORS_ORIGINS": "https://x.example"}, "abc")
    others = [print_of({"MASUKA_PORT": "2"}, "abc"), print_of({"MASUKA_PORT": "1"}, "def"), print_of({}, "abc")]
    assert len({plain, *others}) == 4
