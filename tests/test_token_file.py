"""The token that is made here: for its owner's eyes alone, whole or not there, and one for all who ask at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import SecretStr

from api import token_file
from api.settings import Settings


def test_one_is_made_when_there_is_none_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert token_file.ensure(tmp_path)
    finally:
        os.umask(old)
    assert not token_file.ensure(tmp_path)
    assert len(token_file.stored(tmp_path)) >= 43  # 256 bits
    assert (tmp_path / token_file.NAME).stat().st_mode & 0o777 == 0o600
    assert token_file.is_private(tmp_path)
    (tmp_path / token_file.NAME).chmod(0o644)
    assert not token_file.is_private(tmp_path)


def test_of_many_who_make_one_at_once_all_have_the_same(tmp_path: Path) -> None:
    def make(_: int) -> str:
        token_file.ensure(tmp_path)
        return token_file.stored(tmp_path)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(32)))) == 1


def test_another_takes_its_place(tmp_path: Path) -> None:
    token_file.ensure(tmp_path)
    before = token_file.stored(tmp_path)
    token_file.replace(tmp_path)
    assert token_file.stored(tmp_path) not in ("", before)
    assert token_file.is_private(tmp_path)


def test_what_a_crash_left_half_written_is_no_token(tmp_path: Path) -> None:
    (tmp_path / f".{token_file.NAME}.part").write_text("half")
    assert token_file.stored(tmp_path) == ""
    assert token_file.ensure(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    assert token_file.stored(tmp_path) not in ("", "half")


def test_the_owners_own_token_counts_before_the_one_that_was_made(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, masuka_data_dir=tmp_path)
    assert settings.api_token == ""
    token_file.ensure(tmp_path)
    assert settings.api_token == token_file.stored(tmp_path)
    settings.require_safe_bind("0.0.0.0")
    own = Settings(_env_file=None, masuka_data_dir=tmp_path, masuka_api_token=SecretStr("mine"))
    assert own.api_token == "mine"
