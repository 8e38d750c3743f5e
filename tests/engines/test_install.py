import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from api.engines import engines, locate, receipt
from api.engines.install import install, install_all
from api.errors import InputError, InstallError, UnavailableError
from api.settings import PROJECT_ROOT
from tests.engines import small_engine
from tests.engines.small_engine import SmallEngine
from tests.service import with_values
from tests.waiting import until

INSTALL_IN_ANOTHER_PROCESS = """
import os, pathlib, pytest
from api.engines.install import install
from api.settings import Settings
from tests.engines import small_engine
folder = pathlib.Path(os.environ["FOLDER"])
with pytest.MonkeyPatch.context() as patch:
    small_engine.use(folder / "lock.txt", folder / "wheels", folder / "uv-cache", patch)
    settings = Settings(_env_file=None, masuka_data_dir=folder / "data", comfyui_path=folder / "ComfyUI")
    install(settings, "comfyui", lambda name, stage, fraction: None)
"""


def silent(name: str, stage: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallEngine:
    return small_engine.make(tmp_path, monkeypatch)


def start_elsewhere(engine: SmallEngine) -> "subprocess.Popen[bytes]":
    env = os.environ | {"FOLDER": str(engine.lock.parent), "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen([sys.executable, "-c", INSTALL_IN_ANOTHER_PROCESS], env=env)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_an_engine_is_installed_tried_and_found(engine: SmallEngine):
    assert install(engine.settings, "comfyui", silent) is True
    found = locate.comfyui(engine.settings)
    assert found.source == engine.checkout
    assert found.python.is_file()
    assert len(engine.starts()) == 1
    assert is_gone(engine.starts()[0])


def test_a_configured_proxy_does_not_come_between_us_and_loopback(engine: SmallEngine, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert install(engine.settings, "comfyui", silent) is True


def test_what_is_installed_is_left_alone_and_not_tried_again(engine: SmallEngine):
    install(engine.settings, "comfyui", silent)
    assert install(engine.settings, "comfyui", silent) is False
    assert len(engine.starts()) == 1


def test_an_engine_is_the_same_one_through_a_link(engine: SmallEngine, tmp_path: Path):
    install(engine.settings, "comfyui", silent)
    link = tmp_path / "link"
    link.symlink_to(engine.settings.engines_dir)
    through_it = with_values(engine.settings, masuka_engines_dir=link)
    assert install(through_it, "comfyui", silent) is False


def test_progress_ends_with_the_whole(engine: SmallEngine):
    told: list[tuple[str, str, float | None]] = []
    install(engine.settings, "comfyui", lambda *step: told.append(step))
    assert {name for name, _, _ in told} == {"comfyui"}
    fractions = [fraction for _, _, fraction in told if fraction is not None]
    assert fractions == sorted(fractions)
    assert told[-1] == ("comfyui", "installed", 1.0)


async def test_an_installer_killed_half_way_leaves_nothing_running_and_the_next_one_repairs(engine: SmallEngine):
    engine.set("hangs")
    process = start_elsewhere(engine)
    await until(engine.starts, seconds=30)
    process.kill()
    process.wait()
    (comfyui,) = engine.starts()
    await until(lambda: is_gone(comfyui))
    with pytest.raises(UnavailableError, match="masuka install comfyui") as error:
        locate.comfyui(engine.settings)
    assert error.value.code == "engine_not_installed"
    engine.mend("hangs")
    assert install(engine.settings, "comfyui", silent) is True
    assert locate.comfyui(engine.settings).python.is_file()


async def test_two_at_once_install_it_once(engine: SmallEngine):
    engine.set("hangs")
    process = start_elsewhere(engine)
    await until(engine.starts, seconds=30)
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        ours = pool.submit(install, engine.settings, "comfyui", lambda name, stage, fraction: told.append(stage))
        await until(lambda: told)
        engine.mend("hangs")
        assert ours.result() is False
    assert told == ["waiting for another installation", "already installed"]
    assert process.wait() == 0
    assert len(engine.starts()) == 1


def test_an_engine_that_dies_at_its_start_is_not_installed_and_says_why(engine: SmallEngine):
    engine.set("dies")
    with pytest.raises(InstallError, match="no GPU today") as error:
        install(engine.settings, "comfyui", silent)
    assert error.value.code == "engine_does_not_start"
    assert receipt.read(engine.settings.engines_dir / "comfyui") is None
    engine.mend("dies")
    assert install(engine.settings, "comfyui", silent) is True


def test_an_engine_without_the_nodes_we_need_is_refused(engine: SmallEngine):
    engine.set("poor")
    with pytest.raises(InstallError, match="KSampler") as error:
        install(engine.settings, "comfyui", silent)
    assert error.value.code == "engine_does_not_start"


def test_a_package_that_cannot_be_had_fails_and_is_had_later(engine: SmallEngine):
    (wheel,) = engine.wheels.glob("small_package*")
    hidden = wheel.rename(engine.wheels.parent / wheel.name)
    with pytest.raises(InstallError, match="small-package"):
        install(engine.settings, "comfyui", silent)
    hidden.rename(wheel)
    assert install(engine.settings, "comfyui", silent) is True


def test_a_package_that_is_not_the_locked_one_is_refused(engine: SmallEngine):
    engine.lock.write_text(f"small-package==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(InstallError, match="Hash mismatch"):
        install(engine.settings, "comfyui", silent)


def test_a_checkout_of_another_version_gets_the_packages_it_asks_for(engine: SmallEngine):
    small_engine.write_wheel(engine.wheels, "newer_package", "2.0")
    (engine.checkout / "comfyui_version.py").write_text('__version__ = "0.4.0"\n')
    (engine.checkout / "requirements.txt").write_text("newer-package\ntorch\ntorchvision\n")
    install(engine.settings, "comfyui", silent)
    found = locate.comfyui(engine.settings)
    assert found.version == "0.4.0"
    subprocess.run([found.python, "-c", "import newer_package, small_package"], check=True)


def test_a_failure_is_told_to_the_one_who_watches(engine: SmallEngine):
    engine.set("dies")
    told: list[str] = []
    with pytest.raises(InstallError):
        install(engine.settings, "comfyui", lambda name, stage, fraction: told.append(stage))
    assert told[-1] == "failed: engine_does_not_start"


def test_a_changed_lock_installs_again(engine: SmallEngine):
    install(engine.settings, "comfyui", silent)
    engine.lock.write_text(engine.lock.read_text() + "# renewed\n")
    assert install(engine.settings, "comfyui", silent) is True
    assert len(engine.starts()) == 2


def test_a_deleted_environment_is_made_again(engine: SmallEngine):
    install(engine.settings, "comfyui", silent)
    locate.comfyui(engine.settings).python.unlink()
    with pytest.raises(UnavailableError):
        locate.comfyui(engine.settings)
    assert install(engine.settings, "comfyui", silent) is True
    assert locate.comfyui(engine.settings).python.is_file()


def test_an_unreadable_receipt_counts_as_none(engine: SmallEngine):
    install(engine.settings, "comfyui", silent)
    path = engine.settings.engines_dir / "comfyui" / receipt.NAME
    for text in ('{"spec": "x"', '{"spec": "x", "version": "1", "of_the_future": 1}', "[]", ""):
        path.write_text(text)
        assert receipt.read(path.parent) is None
    assert install(engine.settings, "comfyui", silent) is True
    assert json.loads(path.read_text())["version"] == "0.3.75"


def test_an_engine_installed_for_one_checkout_is_not_taken_for_another(engine: SmallEngine):
    install(engine.settings, "comfyui", silent)
    other = engine.settings.model_copy(update={"comfyui_path": engine.checkout.parent / "another"})
    with pytest.raises(UnavailableError, match="COMFYUI_PATH") as error:
        locate.comfyui(other)
    assert error.value.code == "engine_not_installed"


def test_too_little_room_is_found_before_anything_is_done(engine: SmallEngine, monkeypatch: pytest.MonkeyPatch):
    recipe = engines.RECIPES["comfyui"](engine.settings, gpu=False)
    huge = replace(recipe, disk_gb=10**9)
    monkeypatch.setitem(engines.RECIPES, "comfyui", lambda settings, *, gpu: huge)
    with pytest.raises(InstallError, match="are free") as error:
        install(engine.settings, "comfyui", silent)
    assert error.value.code == "disk_full"
    assert not recipe.python.exists()


def test_several_are_installed_at_once_and_one_failure_does_not_stop_the_others(engine: SmallEngine):
    with pytest.raises(InputError, match="nonsense"):
        install_all(engine.settings, ["nonsense", "comfyui"], silent)
    assert locate.comfyui(engine.settings).version == "0.3.75"


def test_an_unknown_name_is_refused_with_the_known_ones(engine: SmallEngine):
    with pytest.raises(InputError, match="flux-tiny") as error:
        install(engine.settings, "comfy", silent)
    assert error.value.code == "install_unknown"
