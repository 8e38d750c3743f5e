"""What Colab offers, asked of a stand-in for it; and what is said where there is no Colab."""

import os
from pathlib import Path

import pytest

from api.colab import host, keys, pictures_in
from api.colab.address import LOOPBACK, PROXY, Address, address
from api.colab.errors import NotebookError
from tests.colab.conftest import Account

HERE = "http://127.0.0.1:8000"


def test_keys_come_from_the_environment_and_then_from_the_secrets_that_are_open(colab: Account) -> None:
    colab(
        secrets={"HF_TOKEN": " theirs\n", "NGROK_AUTH_TOKEN": "n", "S3_BUCKET_NAME": ""}, locked=["AWS_ACCESS_KEY_ID"]
    )
    found = keys.found({"NGROK_AUTH_TOKEN": "mine", "HOME": "/root"})
    assert found == {"NGROK_AUTH_TOKEN": "mine", "HF_TOKEN": "theirs"}


def test_our_programs_get_the_keys_and_nothing_that_leads_into_the_kernels_packages() -> None:
    colabs = {"UV_SYSTEM_PYTHON": "true", "UV_CONSTRAINT": "/backend-container/containers/requirements.constraints"}
    kernels = {"PYTHONPATH": "/env/python", "MPLBACKEND": "inline", "HOME": "/root", "HF_TOKEN": "old", **colabs}
    assert keys.environment(kernels, {"HF_TOKEN": "new"}) == {"HOME": "/root", "HF_TOKEN": "new"}


def test_elsewhere_there_is_nothing_and_what_to_do_is_said(tmp_path: Path) -> None:
    assert address(None, HERE, 8000) == Address(HERE, "loopback", LOOPBACK)
    assert (host.is_colab(), host.secrets(["HF_TOKEN"]), host.hand_over(tmp_path)) == (False, {}, False)
    with pytest.raises(NotebookError, match="Leave DRIVE_FOLDER empty"):
        host.mount_drive()
    with pytest.raises(NotebookError, match="Set SOURCE"):
        pictures_in.files(tmp_path / "uploads", "")


def test_the_best_address_is_named_with_what_to_know_of_it(colab: Account) -> None:
    colab(proxy="https://{port}-colab.example/")
    assert address(None, HERE, 8000) == Address("https://8000-colab.example", "colab", PROXY)
    broken = {"stand": "failed", "url": "", "detail": "ngrok says no."}
    assert address(broken, HERE, 8000).note == f"{PROXY} There is no tunnel: ngrok says no."
    tunnel = {"stand": "open", "url": "https://mine.ngrok.app", "detail": ""}
    assert address(tunnel, HERE, 8000) == Address("https://mine.ngrok.app", "ngrok", "")
    colab()
    assert address(None, HERE, 8000).by == "loopback"  # open in no browser


def test_the_browser_is_asked_for_pictures_once(colab: Account, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.mkdir()
    for name in ("b.png", "b.txt", "a.jpg", "notes.pdf"):
        (browser / name).write_text(name)
    done = colab(browser=str(browser))
    uploads = tmp_path / "uploads"
    before = os.getcwd()
    for _ in range(2):
        assert [path.name for path in pictures_in.files(uploads, "")] == ["a.jpg", "b.png", "b.txt"]
    assert done.read_text() == "uploaded 4\n"
    assert os.getcwd() == before


def test_a_folder_a_zip_or_a_place_on_drive_can_be_named(
    colab: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colab()
    monkeypatch.setattr(host, "DRIVE", tmp_path / "drive")
    folder = tmp_path / "drive" / "MyDrive" / "photos"
    folder.mkdir(parents=True)
    with pytest.raises(NotebookError, match="no pictures in"):
        pictures_in.files(tmp_path, "drive:photos")
    (folder / "photos.zip").write_bytes(b"PK")
    assert pictures_in.files(tmp_path, "drive:photos") == [folder / "photos.zip"]
    assert pictures_in.files(tmp_path, str(folder / "photos.zip")) == [folder / "photos.zip"]
    (folder / "1.PNG").write_bytes(b"x")
    assert pictures_in.files(tmp_path, str(folder)) == [folder / "1.PNG"]
