from pathlib import Path

import pytest

from api.engines import sources
from api.engines.sources import Source
from api.errors import InstallError
from api.settings import Settings


def settings(**named: Path) -> Settings:
    return Settings(_env_file=None, **named)  # type: ignore[arg-type]


def comfyui_checkout(folder: Path, version: str = "0.4.0") -> Path:
    folder.mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'# generated\n__version__ = "{version}"\n')
    return folder


def simpletuner_checkout(folder: Path, version: str) -> Path:
    (folder / "simpletuner").mkdir(parents=True)
    (folder / "simpletuner" / "train.py").touch()
    (folder / "simpletuner" / "__init__.py").write_text(f'"""Docs."""\n__version__ = "{version}"\n')
    return folder


def test_comfyui_is_the_pinned_one_unless_a_checkout_is_there(tmp_path: Path):
    (tmp_path / "comfyui").mkdir()  # a submodule that is not checked out is an empty folder
    assert sources.comfyui(settings(), root=tmp_path) == Source("0.3.75")


def test_the_submodule_is_taken_when_it_is_checked_out(tmp_path: Path):
    checkout = comfyui_checkout(tmp_path / "comfyui", "0.3.75")
    assert sources.comfyui(settings(), root=tmp_path) == Source("0.3.75", checkout)


def test_comfyui_path_comes_before_the_submodule(tmp_path: Path):
    comfyui_checkout(tmp_path / "comfyui")
    mine = comfyui_checkout(tmp_path / "mine", "0.4.1")
    assert sources.comfyui(settings(comfyui_path=mine), root=tmp_path) == Source("0.4.1", mine)


def test_a_comfyui_path_without_comfyui_is_refused(tmp_path: Path):
    with pytest.raises(InstallError, match="COMFYUI_PATH") as error:
        sources.comfyui(settings(comfyui_path=tmp_path), root=tmp_path)
    assert error.value.code == "checkout_invalid"


@pytest.mark.parametrize(("python", "version"), [((3, 11), "3.1.6"), ((3, 12), "4.8.0"), ((3, 13), "4.8.0")])
def test_simpletuner_is_the_pinned_one_for_this_python(tmp_path: Path, python: tuple[int, int], version: str):
    assert sources.simpletuner(settings(), root=tmp_path, python=python) == Source(version)


def test_a_submodule_that_needs_a_newer_python_is_passed_over(tmp_path: Path):
    checkout = simpletuner_checkout(tmp_path / "simpletuner", "4.8.0")
    assert sources.simpletuner(settings(), root=tmp_path, python=(3, 11)) == Source("3.1.6")
    assert sources.simpletuner(settings(), root=tmp_path, python=(3, 12)) == Source("4.8.0", checkout)


def test_a_named_checkout_that_needs_a_newer_python_is_refused(tmp_path: Path):
    mine = simpletuner_checkout(tmp_path / "mine", "4.9.0")
    with pytest.raises(InstallError, match=r"Python 3\.12") as error:
        sources.simpletuner(settings(simpletuner_path=mine), root=tmp_path, python=(3, 11))
    assert error.value.code == "python_too_old"


def test_an_old_checkout_with_its_train_script_at_the_top_is_taken(tmp_path: Path):
    mine = tmp_path / "old"
    mine.mkdir()
    (mine / "train.py").touch()
    assert sources.simpletuner(settings(simpletuner_path=mine), root=tmp_path, python=(3, 11)).checkout == mine
    assert sources.train_script(mine) == mine / "train.py"


def test_a_simpletuner_path_without_a_train_script_is_refused(tmp_path: Path):
    with pytest.raises(InstallError, match="SIMPLETUNER_PATH"):
        sources.simpletuner(settings(simpletuner_path=tmp_path / "nowhere"), root=tmp_path)
