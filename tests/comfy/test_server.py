import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from api.comfy.server import ComfyServer
from api.domain.engine import ComfyInstall, InstalledBase
from api.errors import EngineError


def server_running(program: str, folder: Path) -> tuple[ComfyServer, InstalledBase]:
    """A server whose ComfyUI is a few lines of Python."""
    source, nodes, models = folder / "source", folder / "nodes" / "shim", folder / "models"
    for path in (source, nodes, models):
        path.mkdir(parents=True)
    (source / "main.py").write_text(program)
    install = ComfyInstall(source, Path(sys.executable), "0", gpu=False, custom_nodes=(nodes,))
    base = InstalledBase("tiny", "flux", folder, models, "unet", "clip_l", "t5xxl", "vae")
    return ComfyServer(install, folder / "base", folder / "logs" / "comfyui.log"), base


async def start(server: ComfyServer, base: InstalledBase) -> None:
    async with server.use(base):
        pass


async def test_a_comfyui_that_cannot_start_is_told_at_once_with_its_last_words(tmp_path):
    server, base = server_running("import sys; print('No module named torch'); sys.exit(3)", tmp_path)
    with pytest.raises(EngineError) as caught:
        await start(server, base)
    assert caught.value.code == "comfyui_start_failed"
    assert "exit status 3" in caught.value.detail
    assert "No module named torch" in caught.value.detail
    assert not server.running
    assert "No module named torch" in (tmp_path / "logs" / "comfyui.log").read_text()


async def test_a_start_that_fails_can_be_tried_again(tmp_path):
    server, base = server_running("raise SystemExit(1)", tmp_path)
    for _ in range(2):
        with pytest.raises(EngineError, match="exit status 1"):
            await start(server, base)


async def test_a_comfyui_whose_python_is_gone_cannot_start(tmp_path):
    server, base = server_running("", tmp_path)
    server._install = replace(server._install, python=tmp_path / "gone")
    with pytest.raises(EngineError, match="gone") as caught:
        await start(server, base)
    assert caught.value.code == "comfyui_start_failed"


async def test_comfyui_is_given_its_folders_its_nodes_and_the_models_of_the_base(tmp_path):
    server, base = server_running("", tmp_path)
    left_over = tmp_path / "base" / "output" / "masuka" / "half-written.png"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    with pytest.raises(EngineError):
        await start(server, base)
    assert server.lora_dir.is_dir()
    assert (tmp_path / "base" / "masuka_nodes" / "shim").resolve() == tmp_path / "nodes" / "shim"
    search_paths = json.loads((tmp_path / "base" / "extra_model_paths.yaml").read_text())
    assert search_paths["base"]["base_path"] == str(base.models_dir)
    assert not left_over.exists()


async def test_a_server_that_never_ran_has_nothing_to_tell_and_nothing_to_stop(tmp_path):
    server, _ = server_running("", tmp_path)
    await server.stop()
    assert (server.running, server.pid) == (False, None)
