import dataclasses
from pathlib import Path

import pytest

from api.comfy import launch
from api.domain.engine import ComfyInstall

INSTALL = ComfyInstall(Path("/engines/source"), Path("/engines/bin/python"), "0.3.75", gpu=False, env={"PATH": "/own"})


def arguments(install: ComfyInstall = INSTALL) -> list[str]:
    return launch.command(install, Path("/base"), Path("/base/paths.yaml"), 8123, 42)


def test_comfyui_listens_on_loopback_and_writes_into_its_own_folder():
    line = " ".join(arguments())
    assert "/engines/source/main.py" in line
    assert "--listen 127.0.0.1 --port 8123" in line
    assert "--base-directory /base " in line
    assert "--database-url sqlite:///:memory:" in line
    assert "--disable-api-nodes" in line
    assert "--preview-method latent2rgb" in line


def test_the_cpu_is_used_only_where_there_is_no_gpu():
    assert "--cpu" in arguments()
    assert "--cpu" not in arguments(dataclasses.replace(INSTALL, gpu=True))


@pytest.mark.parametrize(("gpu", "flag"), [(True, "--novram"), (False, "--cache-none")])
def test_a_light_one_does_with_less_memory(gpu, flag):
    install = dataclasses.replace(INSTALL, gpu=gpu)
    light = launch.command(install, Path("/base"), Path("/base/paths.yaml"), 8123, 42, light=True)
    assert light == [*arguments(install), flag]


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "DATABASE_URL", "MASUKA_API_TOKEN", "PYTHONPATH"],
)
def test_our_secrets_and_our_packages_stay_ours(name):
    assert name not in launch.environment(INSTALL, {name: "ours", "HOME": "/home/me"}, 4)


def test_the_rest_of_the_environment_is_passed_on_and_the_installation_has_the_last_word():
    environment = launch.environment(INSTALL, {"CUDA_VISIBLE_DEVICES": "1", "PATH": "/ours"}, 4)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["PATH"] == "/own"


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (8, "4")])
def test_a_cpu_computes_with_half_of_its_cores(cores, threads):
    assert launch.environment(INSTALL, {}, cores)["OMP_NUM_THREADS"] == threads


def test_the_number_of_threads_is_the_users_if_they_set_it_and_torchs_on_a_gpu():
    assert launch.environment(INSTALL, {"OMP_NUM_THREADS": "7"}, 8)["OMP_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in launch.environment(dataclasses.replace(INSTALL, gpu=True), {}, 8)


def test_the_search_paths_name_the_models_and_the_nodes():
    assert launch.search_paths(Path("/bases/flux"), Path("/nodes")) == {
        "base": {
            "base_path": "/bases/flux",
            "diffusion_models": "diffusion_models",
            "text_encoders": "text_encoders",
            "vae": "vae",
        },
        "nodes": {"custom_nodes": "/nodes"},
    }
