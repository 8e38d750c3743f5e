"""The command line: one message and an exit code for what goes wrong, one JSON document for scripts."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api import __version__
from api.cli import app

UNREACHABLE = "http://127.0.0.1:1"


def masuka(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_version_says_it_in_words_and_in_json() -> None:
    assert masuka("version").stdout.strip() == f"masuka {__version__}"
    assert json.loads(masuka("version", "--json").stdout) == {"version": __version__}


@pytest.mark.parametrize(
    "words",
    [("list", "models"), ("generate", "a red circle"), ("train", ".")],
    ids=lambda words: words[0],
)
def test_a_service_that_does_not_answer_is_one_message_that_says_what_to_do(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.png").write_bytes(b"not looked at by the client")
    monkeypatch.chdir(tmp_path)
    done = masuka(*words, "--url", UNREACHABLE)
    assert done.exit_code == 1
    assert UNREACHABLE in done.stderr
    assert "masuka up" in done.stderr
    assert "Traceback" not in done.output


def test_with_json_an_error_is_json_too() -> None:
    done = masuka("list", "models", "--json", "--url", UNREACHABLE)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "api_unreachable"


def test_an_unknown_list_names_the_known_ones() -> None:
    done = masuka("list", "cats", "--url", UNREACHABLE)
    assert done.exit_code == 1
    assert "models" in done.stderr


def test_a_folder_without_pictures_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    done = masuka("train", str(tmp_path), "--url", UNREACHABLE)
    assert done.exit_code == 1
    assert str(tmp_path) in done.stderr.replace("\n", "")


def test_a_wrong_setting_is_one_line_and_exit_code_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASUKA_PORT", "many")
    done = masuka("doctor")
    assert done.exit_code == 78
    assert "MASUKA_PORT" in done.stderr
    assert "Traceback" not in done.output


def test_something_unknown_to_install_names_what_there_is() -> None:
    done = masuka("install", "comfy")
    assert done.exit_code == 1
    assert "flux-tiny" in done.stderr


def test_a_token_is_made_once_shown_again_and_replaced_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASUKA_DATA_DIR", str(tmp_path / "data"))
    first = masuka("token").stdout.strip()
    assert len(first) >= 43
    assert masuka("token").stdout.strip() == first
    assert json.loads(masuka("token", "--json").stdout) == {"token": first}
    assert masuka("token", "--new").stdout.strip() not in ("", first)
    monkeypatch.setenv("MASUKA_API_TOKEN", "my-own")
    assert masuka("token").stdout.strip() == "my-own"
