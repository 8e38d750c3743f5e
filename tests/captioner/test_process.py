"""The captioner as a process: asked, failing, dying, hanging, and never outliving who asks."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from api.captioner import process
from api.captioner.process import CaptionerProcess, CaptionerSpec, PictureError, environment, running
from api.domain.captioning import CaptionerName
from api.domain.engine import TrainerInstall
from api.errors import EngineError, RetryableError
from api.processes import process_start
from api.settings import PROJECT_ROOT
from tests.captioner.stand import fake_engines, fake_install
from tests.waiting import until

START_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from api.captioner.process import CaptionerSpec, running
from api.domain.engine import TrainerInstall
async def main() -> None:
    install = TrainerInstall(Path(sys.argv[1]), Path(sys.argv[1]), "3.1.6", gpu=False)
    spec = CaptionerSpec(sys.argv[2], "florence2", "", "", 1, "float32", 0)
    async with running(install, spec, Path(sys.argv[2]) / "log") as captioner:
        await captioner.load()
        print("pid", captioner.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    return fake_engines(tmp_path, CaptionerName.FLORENCE_2)


@pytest.fixture
def folder(engines: Path) -> Path:
    return engines / CaptionerName.FLORENCE_2 / "model"


def spec(folder: Path) -> CaptionerSpec:
    return CaptionerSpec(str(folder), "florence2", "<CAPTION>", "", 8, "float32", 0)


def tell(folder: Path, **acts: list[str]) -> None:
    (folder / "acts.json").write_text(json.dumps(acts))


async def test_it_is_asked_picture_by_picture_and_is_gone_at_the_end(engines: Path, folder: Path) -> None:
    tell(folder, b=["fail", "image_unreadable"])
    async with running(fake_install(engines), spec(folder), folder / "log" / "captioner.log") as captioner:
        await captioner.load()
        assert captioner.about == {"device": "cpu", "dtype": "float32", "transformers": "0"}
        assert await captioner.describe(Path("a.png")) == "<CAPTION> about a.png"
        with pytest.raises(PictureError, match="cannot be described") as refused:
            await captioner.describe(Path("b.png"))
        assert refused.value.code == "image_unreadable"
        assert await captioner.describe(Path("c.png")) == "<CAPTION> about c.png"
        pid = captioner.pid
        assert process_start(pid) is not None
    assert process_start(pid) is None
    assert (folder / "log" / "captioner.log").read_text() == "loading florence2\n"


async def test_one_that_dies_says_how_and_what_it_said_last(engines: Path, folder: Path) -> None:
    tell(folder, a=["die once"])
    async with running(fake_install(engines), spec(folder), folder / "log") as captioner:
        await captioner.load()
        with pytest.raises(RetryableError, match="SIGKILL, perhaps out of memory") as died:
            await captioner.describe(Path("a.png"))
        with pytest.raises(RetryableError):  # nor is there anything to write to
            await captioner.describe(Path("b.png"))
    assert (died.value.code, died.value.log_tail) == ("captioner_died", "loading florence2\nout of memory")


async def test_one_that_hangs_is_not_waited_for_for_ever(
    engines: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(folder, a=["hang"])
    async with running(fake_install(engines), spec(folder), folder / "log") as captioner:
        await captioner.load()
        monkeypatch.setattr(process, "PICTURE_SECONDS", 0.1)
        with pytest.raises(RetryableError) as hung:
            await captioner.describe(Path("a.png"))
    assert hung.value.code == "captioner_hung"
    assert process_start(captioner.pid) is None


async def test_weights_that_cannot_be_loaded_say_so(engines: Path, folder: Path) -> None:
    tell(folder, load=["die"])
    async with running(fake_install(engines), spec(folder), folder / "log") as captioner:
        with pytest.raises(EngineError, match="it cannot be loaded") as failed:
            await captioner.load()
    assert failed.value.code == "captioner_out_of_memory"
    assert not isinstance(failed.value, RetryableError)
    assert failed.value.hint is not None
    assert "florence-2" in failed.value.hint


async def test_a_python_that_is_not_there_names_what_installs_it(folder: Path, tmp_path: Path) -> None:
    install = TrainerInstall(tmp_path / "gone", tmp_path, "3.1.6", gpu=False)
    with pytest.raises(EngineError, match="masuka install simpletuner") as failed:
        async with running(install, spec(folder), folder / "log"):
            pass
    assert failed.value.code == "captioner_not_started"


async def test_the_real_program_says_when_its_libraries_are_missing(folder: Path) -> None:
    install = TrainerInstall(Path(sys.executable), Path(sys.executable), "3.1.6", gpu=False)  # it has no torch
    async with running(install, spec(folder), folder / "log") as captioner:
        with pytest.raises(EngineError, match="No module named 'torch'") as failed:
            await captioner.load()
    assert failed.value.code == "captioner_not_loaded"


@pytest.mark.parametrize("frozen", [False, True])
async def test_it_dies_with_a_parent_that_is_killed(engines: Path, folder: Path, frozen: bool) -> None:
    install = fake_install(engines)
    command = ("-c", START_AND_WAIT, str(install.python), str(folder))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=PROJECT_ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    line = b""
    while not line.startswith(b"pid "):  # before it come lines of the log
        line = await parent.stdout.readline()
    pid = int(line.split()[1])
    if frozen:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    await parent.wait()
    await until(lambda: process_start(pid) is None)


async def test_a_cancellation_ends_it(engines: Path, folder: Path) -> None:
    tell(folder, a=["hang"])
    asked: list[CaptionerProcess] = []

    async def ask() -> None:
        async with running(fake_install(engines), spec(folder), folder / "log") as captioner:
            await captioner.load()
            asked.append(captioner)
            await captioner.describe(Path("a.png"))

    asking = asyncio.create_task(ask())
    await until((folder / "asked.txt").exists)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert process_start(asked[0].pid) is None


def test_it_gets_no_secret_and_no_network(tmp_path: Path) -> None:
    install = TrainerInstall(tmp_path / "bin" / "python", tmp_path, "3.1.6", gpu=False)
    inherited = {"HF_TOKEN": "hf_secret", "AWS_SECRET_ACCESS_KEY": "s", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "0"}
    found = environment(install, inherited, cpu_count=8)
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY"} & found.keys()
    assert (found["HOME"], found["CUDA_VISIBLE_DEVICES"]) == ("/root", "0")
    assert (found["HF_HUB_OFFLINE"], found["TRANSFORMERS_OFFLINE"], found["OMP_NUM_THREADS"]) == ("1", "1", "4")
