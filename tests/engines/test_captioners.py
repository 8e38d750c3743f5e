"""The captioners of the catalogue, downloaded from a hub on loopback: safetensors, at one commit, and no code."""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from api.domain.captioning import DEFAULT_STYLE, STYLES, CaptionerName
from api.engines import install as installer
from api.engines import locate, receipt
from api.engines.captioners import CAPTIONERS, FLORENCE_2, Captioner
from api.engines.catalogue import GB
from api.engines.hub import Hub
from api.engines.receipt import Receipt
from api.errors import InstallError, UnavailableError
from api.settings import Settings
from tests.engines.hub_server import HubServer, running_hub
from tests.service import with_values

SAFE = re.compile(r".+\.(json|txt|jinja|safetensors)")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with Florence-2 at the commit of the catalogue, and nothing at `main`."""
    with running_hub() as hub:
        hub.gated, hub.revision = False, FLORENCE_2.revision
        for file in FLORENCE_2.files:
            hub.files[f"{file.repo}/{file.path}"] = os.urandom(file.size_bytes % 5000 + 1)
        monkeypatch.setattr(installer, "Hub", partial(Hub, endpoint=hub.url, pause_seconds=0))
        yield hub


@pytest.fixture
def with_engine(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """SimpleTuner is there already."""
    monkeypatch.setattr(installer, "NEEDS", {})
    return with_values(settings, masuka_engines_dir=tmp_path / "engines")


def install(settings: Settings) -> bool:
    return installer.install(settings, "florence-2", lambda name, stage, fraction: None)


@pytest.mark.parametrize("captioner", CAPTIONERS.values(), ids=lambda captioner: captioner.name)
def test_weights_are_safetensors_of_one_commit_and_there_is_no_code(captioner: Captioner):
    assert re.fullmatch(r"[0-9a-f]{40}", captioner.revision)
    assert {(file.repo, file.revision) for file in captioner.files} == {(captioner.repo, captioner.revision)}
    assert all(SAFE.fullmatch(file.path) for file in captioner.files)
    names = {file.path for file in captioner.files}
    assert {"config.json", "tokenizer.json", "preprocessor_config.json"} <= names
    assert any(name.endswith(".safetensors") for name in names)
    assert captioner.licence_url.startswith("https://huggingface.co/")


@pytest.mark.parametrize("captioner", CAPTIONERS.values(), ids=lambda captioner: captioner.name)
def test_the_disk_and_the_memory_that_are_named_suffice(captioner: Captioner):
    size_gb = sum(file.size_bytes for file in captioner.files) / GB
    assert size_gb <= captioner.disk_gb <= size_gb * 1.1
    assert captioner.need_gb(gpu=True) >= size_gb * GB / 1024**3
    assert captioner.need_gb(gpu=False) == captioner.ram_gb


def test_every_captioner_can_be_installed_and_has_styles():
    assert set(CAPTIONERS) == set(CaptionerName) == set(STYLES) == set(DEFAULT_STYLE)
    assert set(CAPTIONERS) <= set(installer.NAMES)
    assert all(installer.NEEDS[name] == ("simpletuner",) for name in CaptionerName)


def test_a_captioner_is_downloaded_at_its_commit_and_found(server: HubServer, with_engine: Settings):
    with pytest.raises(UnavailableError, match="masuka install florence-2"):
        locate.captioner(with_engine, CaptionerName.FLORENCE_2)
    assert locate.installed_captioners(with_engine) == []
    assert install(with_engine) is True
    found = locate.captioner(with_engine, CaptionerName.FLORENCE_2)
    assert (found.name, found.revision) == ("florence-2", FLORENCE_2.revision)
    assert {path.name for path in found.folder.iterdir()} == {file.path for file in FLORENCE_2.files}
    for file in FLORENCE_2.files:
        assert (found.folder / file.path).read_bytes() == server.files[f"{file.repo}/{file.path}"]
    assert locate.installed_captioners(with_engine) == ["florence-2"]
    assert install(with_engine) is False
    (found.folder / "tokenizer.json").unlink()
    assert install(with_engine) is True


def test_a_download_that_was_cut_off_goes_on(server: HubServer, with_engine: Settings):
    server.statuses.append(404)
    with pytest.raises(InstallError, match="download"):
        install(with_engine)
    assert locate.installed_captioners(with_engine) == []
    assert install(with_engine) is True


def test_another_commit_is_another_installation(server: HubServer, with_engine: Settings):
    install(with_engine)
    folder = with_engine.engines_dir / "florence-2"
    receipt.write(folder, Receipt("of another commit", "0"))
    assert install(with_engine) is True
    assert locate.captioner(with_engine, CaptionerName.FLORENCE_2).revision == FLORENCE_2.revision
