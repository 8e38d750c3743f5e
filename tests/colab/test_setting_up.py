"""What the first cell is told of the settings, and what it tells the user at its end."""

import asyncio
from pathlib import Path

from pydantic import SecretStr

from api.colab.address import Address
from api.colab.card import Verdict
from api.colab.client import Api
from api.colab.facts import facts
from api.colab.notebook import Notebook
from api.colab.programs import Programs
from api.colab.setting_up import _what_next, restored
from api.settings import Settings
from tests.service import over_http, with_values

OWNER = "a-long-secret-of-the-owner"


def test_a_token_is_made_and_told_as_new_once(settings: Settings) -> None:
    first, second = facts(settings), facts(settings)
    assert (first["token_is_new"], second["token_is_new"]) == (True, False)
    assert len(str(first["token"])) > 40
    assert first["token"] == second["token"]
    own = facts(with_values(settings, masuka_api_token=SecretStr(OWNER)))
    assert (own["token"], own["token_is_new"]) == (OWNER, False)


def test_a_bucket_or_a_folder_is_a_place_for_backups(settings: Settings, tmp_path: Path) -> None:
    assert facts(settings)["has_backup_place"] is False
    assert facts(with_values(settings, masuka_backup_dir=tmp_path))["has_backup_place"] is True


def test_what_was_restored_is_told_in_words() -> None:
    assert restored("Nothing to restore.") == "nothing to restore"
    assert restored('{\n "snapshot": "s1", "rows": 12, "missing": []\n}') == "Restored s1: 12 rows."
    assert (
        restored('{"snapshot": "s1", "rows": 12, "missing": ["a"]}') == "Restored s1: 12 rows, but 1 files are missing."
    )


async def test_the_way_in_works_once_and_an_old_token_is_not_shown(settings: Settings, valkey_url: str) -> None:
    locked = with_values(settings, redis_url=valkey_url, masuka_api_token=SecretStr(OWNER))
    async with over_http(locked) as http:
        local = str(http.base_url).rstrip("/")
        where = Address("https://mine.ngrok.app", "ngrok", "")
        notebook = Notebook(Api(local, OWNER), Programs(Path(), {}), Path(), where, "flux-tiny")
        verdict = Verdict("flux-tiny", "", ())
        said = await asyncio.to_thread(_what_next, notebook, verdict, new_token="")
        assert OWNER not in said
        assert "https://mine.ngrok.app/comfyui/" in said
        link = next(word for word in said.split() if "/door?key=" in word)
        key = link.removeprefix("https://mine.ngrok.app/door?key=").partition("&")[0]
        entered = [await http.post("/door", data={"key": key, "to": "/comfyui/"}) for _ in range(2)]
        assert [answer.status_code for answer in entered] == [303, 401]
        assert OWNER in await asyncio.to_thread(_what_next, notebook, verdict, new_token=OWNER)


async def test_a_door_that_is_open_needs_no_way_in(settings: Settings, valkey_url: str) -> None:
    async with over_http(with_values(settings, redis_url=valkey_url)) as http:
        local = str(http.base_url).rstrip("/")
        where = Address(local, "loopback", "")
        notebook = Notebook(Api(local, ""), Programs(Path(), {}), Path(), where, "flux-tiny")
        assert notebook.api_url == local
        said = await asyncio.to_thread(_what_next, notebook, Verdict("flux-tiny", "", ()), new_token="")
        assert "/door?key=" not in said
