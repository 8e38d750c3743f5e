from pathlib import Path

import pytest

from api.engines import torch_build, uv
from api.errors import InstallError


def test_pip_s_wheel_folders_are_handed_on_from_its_environment(tmp_path: Path):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nfind-links = /configured\n")
    assert uv.pip_find_links({"PIP_FIND_LINKS": "/one https://two"}, [config]) == ["/one", "https://two"]
    assert uv.pip_find_links({}, [config]) == ["/configured"]


def test_several_wheel_folders_are_read_from_pip_s_configuration(tmp_path: Path):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nfind-links =\n    /one\n    /two\n")
    assert uv.pip_find_links({}, [tmp_path / "none.conf", config]) == ["/one", "/two"]
    assert uv.pip_find_links({}, [tmp_path / "none.conf"]) == []


def test_uv_sees_neither_our_venv_nor_our_packages_and_keeps_its_own_settings():
    ours = uv.environment({"VIRTUAL_ENV": "/x", "PYTHONPATH": "/y", "PIP_FIND_LINKS": "/a /b", "UV_HTTP_TIMEOUT": "5"})
    assert ours.keys().isdisjoint({"VIRTUAL_ENV", "PYTHONPATH"})
    assert (ours["UV_FIND_LINKS"], ours["UV_HTTP_TIMEOUT"]) == ("/a,/b", "5")
    assert uv.environment({"UV_FIND_LINKS": "/c", "PIP_FIND_LINKS": "/a"})["UV_FIND_LINKS"] == "/c"
    colabs = dict.fromkeys(uv.PINS, "/backend-container/containers/x.constraints")
    assert uv.environment(colabs).keys().isdisjoint(uv.PINS)


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("error: Failed to install: x\n  Caused by: No space left on device (os error 28)", "disk_full"),
        (
            "error: Request failed after 3 retries\n  cause: Failed to fetch: https://pypi.org/simple/x/",
            "download_failed",
        ),
        ("x No solution found when resolving dependencies", "install_failed"),
    ],
)
def test_what_uv_says_becomes_an_error_with_its_last_lines_and_advice(stderr: str, code: str):
    error = uv.translated(("pip", "install", "x"), stderr)
    assert error.code == code
    assert stderr.splitlines()[-1].strip() in error.detail
    assert error.hint


def test_a_real_failure_of_uv_is_an_install_error(tmp_path: Path):
    with pytest.raises(InstallError, match="uv venv"):
        uv.make_venv(tmp_path / "venv", python=str(tmp_path / "no-python"))


def test_without_a_gpu_the_cpu_builds_come_first_and_the_plain_one_last():
    ways = torch_build.attempts(gpu=False, platform="linux", torchvision_needed=False)
    assert [way.commands[0][-1] for way in ways] == ["torch==2.13.0+cpu", "cpu", "torchvision==0.28.0"]


def test_torchvision_beside_the_cpu_wheel_is_fetched_only_where_it_is_needed():
    with_it = torch_build.attempts(gpu=False, platform="linux", torchvision_needed=True)[0]
    without = torch_build.attempts(gpu=False, platform="linux", torchvision_needed=False)[0]
    assert with_it.commands == (*without.commands, ("--no-deps", "torchvision==0.28.0"))


def test_with_a_gpu_the_build_fits_the_driver_and_off_linux_there_is_one_build():
    ways = torch_build.attempts(gpu=True, platform="linux", torchvision_needed=True)
    assert ways[0].commands[0][-2:] == ("--torch-backend", "auto")
    assert ways[-1].commands == (torch_build.PLAIN,)
    assert torch_build.attempts(gpu=False, platform="darwin", torchvision_needed=True) == [ways[-1]]
