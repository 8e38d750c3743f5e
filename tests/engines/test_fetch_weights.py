import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.engines import catalogue, locate
from api.engines.catalogue import FLUX_DEV, Weights
from api.engines.fetch_weights import fetch_weights, require_disk
from api.engines.hub import Hub
from api.errors import InstallError, UnavailableError
from api.settings import PROJECT_ROOT, Settings
from tests.engines.hub_server import GOOD_TOKEN, TOKEN_WITHOUT_LICENCE, HubServer, running_hub

INSTALL = """
import sys
from pathlib import Path
from api.engines.install import install
from api.errors import InstallError
from api.settings import Settings
settings = Settings(_env_file=None, masuka_data_dir=Path(sys.argv[1]), hf_token=sys.argv[2])
try:
    print("changed", install(settings, "flux-dev", lambda name, stage, fraction: None))
except InstallError as error:
    print(error.code, error)
"""


@pytest.fixture
def server() -> Iterator[HubServer]:
    """A hub with every file of flux-dev, in both weights, and one that nobody needs."""
    with running_hub() as hub:
        for weights in Weights:
            for file in FLUX_DEV.files(weights):
                hub.files[f"{file.repo}/{file.path}"] = os.urandom(file.size_bytes % 5000 + 1)
        hub.files[f"{catalogue.FLUX_DEV_REPO}/ae.safetensors"] = b"not needed: the VAE is shared"
        yield hub


def fetch(server: HubServer, folder: Path, weights: Weights = Weights.FP8) -> list[tuple[str, float | None]]:
    told: list[tuple[str, float | None]] = []
    hub = Hub(GOOD_TOKEN, endpoint=server.url, pause_seconds=0)
    fetch_weights(FLUX_DEV, weights, folder, hub, lambda *step: told.append(step))
    return told


@pytest.mark.parametrize("weights", Weights)
def test_exactly_the_files_of_the_catalogue_are_downloaded(server: HubServer, tmp_path: Path, weights: Weights):
    fetch(server, tmp_path, weights)
    for file in FLUX_DEV.files(weights):
        assert (tmp_path / file.target).read_bytes() == server.files[f"{file.repo}/{file.path}"]
    expected = {file.target for file in FLUX_DEV.files(weights)} | {link for _, link in FLUX_DEV.links}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == expected


def test_what_both_engines_read_is_there_once(server: HubServer, tmp_path: Path):
    fetch(server, tmp_path)
    for source, link in FLUX_DEV.links:
        assert (tmp_path / source).samefile(tmp_path / link)


def test_the_fraction_is_of_all_files_and_reaches_the_whole(server: HubServer, tmp_path: Path):
    fractions = [fraction for _, fraction in fetch(server, tmp_path) if fraction is not None]
    assert max(fractions) == pytest.approx(1)
    assert min(fractions) >= 0


def test_a_second_run_downloads_nothing(server: HubServer, tmp_path: Path):
    fetch(server, tmp_path)
    server.gets.clear()
    fetch(server, tmp_path)
    assert server.gets == []


def test_other_weights_download_only_what_differs(server: HubServer, tmp_path: Path):
    fetch(server, tmp_path, Weights.FP8)
    server.gets.clear()
    fetch(server, tmp_path, Weights.BF16)
    assert sorted(path for path, _ in server.gets) == ["flux1-dev.safetensors", "t5xxl_fp16.safetensors"]


def test_a_file_that_fails_ends_the_download_and_the_next_run_completes_it(server: HubServer, tmp_path: Path):
    lost = server.files.pop(f"{catalogue.FLUX_DEV_REPO}/vae/config.json")
    with pytest.raises(InstallError) as error:
        fetch(server, tmp_path)
    assert error.value.code == "download_failed"
    server.files[f"{catalogue.FLUX_DEV_REPO}/vae/config.json"] = lost
    fetch(server, tmp_path)
    assert (tmp_path / "diffusers/vae/config.json").read_bytes() == lost


def test_without_a_token_nothing_is_asked(server: HubServer, tmp_path: Path):
    with pytest.raises(InstallError, match="HF_TOKEN") as error:
        fetch_weights(FLUX_DEV, Weights.FP8, tmp_path, Hub("", endpoint=server.url), lambda *step: None)
    assert error.value.code == "hf_token_missing"
    assert FLUX_DEV.licence_url in str(error.value)
    assert server.gets == []


def test_too_little_disk_says_how_much_is_needed_and_how_much_there_is(tmp_path: Path):
    with pytest.raises(InstallError, match=r"1000000000\.0 GB are needed .* are free") as error:
        require_disk(tmp_path / "not" / "yet" / "there", 10**18)
    assert error.value.code == "disk_full"


def install_flux_dev(server: HubServer, data: Path, token: str) -> str:
    """In a process of its own, because huggingface_hub reads HF_ENDPOINT when it is imported."""
    env = os.environ | {"HF_ENDPOINT": server.url, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, "-c", INSTALL, str(data), token]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_flux_dev_is_installed_from_the_hub_that_hf_endpoint_names(server: HubServer, tmp_path: Path):
    settings = Settings(_env_file=None, masuka_data_dir=tmp_path)
    assert install_flux_dev(server, tmp_path, GOOD_TOKEN) == "changed True\n"
    assert install_flux_dev(server, tmp_path, GOOD_TOKEN) == "changed False\n"
    base = locate.base_model(settings, "flux-dev")
    assert (base.unet_name, base.weight_dtype) == ("flux1-dev-fp8.safetensors", "fp8_e4m3fn")
    assert (base.clip_l_name, base.vae_name) == ("clip_l.safetensors", "ae.safetensors")
    assert base.custom_nodes == ()
    assert locate.installed_bases(settings) == ["flux-dev"]


def test_a_licence_that_is_not_accepted_leaves_flux_dev_uninstalled(server: HubServer, tmp_path: Path):
    settings = Settings(_env_file=None, masuka_data_dir=tmp_path)
    said = install_flux_dev(server, tmp_path, TOKEN_WITHOUT_LICENCE)
    assert said.startswith("model_gated ")
    assert FLUX_DEV.licence_url in said
    with pytest.raises(UnavailableError):
        locate.base_model(settings, "flux-dev")
