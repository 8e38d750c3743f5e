"""The real ComfyUI with flux-tiny: one per test process, started by the first test that needs it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from api.comfy.server import ComfyServer
from api.domain.engine import ComfyInstall, InstalledBase
from api.engines import locate
from api.settings import Settings
from tests.engines.comfy_lab import Lab

FAULT_NODES = Path(__file__).with_name("fault_nodes")


@pytest.fixture(scope="session")
def comfy_install(engines_dir: Path) -> ComfyInstall:
    """The installed ComfyUI, which loads the fault node too."""
    found = locate.comfyui(_settings(engines_dir))
    return replace(found, custom_nodes=(*found.custom_nodes, FAULT_NODES))


@pytest.fixture(scope="session")
def flux_tiny(engines_dir: Path) -> InstalledBase:
    return locate.base_model(_settings(engines_dir), "flux-tiny")


def _settings(engines_dir: Path) -> Settings:
    return Settings(_env_file=None, masuka_engines_dir=engines_dir)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(
    comfy_install: ComfyInstall, flux_tiny: InstalledBase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lab]:
    folder = tmp_path_factory.mktemp("comfyui")
    server = ComfyServer(comfy_install, folder / "base", folder / "comfyui.log")
    (folder / "pictures").mkdir()
    yield Lab(server, flux_tiny, folder / "pictures")
    await server.stop()
