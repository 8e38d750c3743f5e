"""Pictures made by hand come into the history: each once, whole, with their graph, and none that a job draws."""

import json
import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from api.domain.canvas_prompt import with_own_prefixes
from api.domain.workflow import LoraUse, bind
from api.errors import StorageError
from api.models import GeneratedAsset, Job, Model, UnrecordedFile
from api.resources import Resources
from api.services import canvas_graphs, gallery, generation
from api.services.workflows import shipped
from api.storage.local import LocalStorage
from api.tasks import canvas_pictures
from api.tasks.canvas_pictures import SHOWN_SECONDS, UNFINISHED_SECONDS, keep_pictures
from api.tasks.gpu import GpuKit
from tests.job_rows import assert_rows_sound

TEMPLATE = shipped()["flux_text_to_image"].template
GRAPH = TEMPLATE.graph


@pytest.fixture
def kit(resources: Resources) -> GpuKit:
    return GpuKit(resources)


def drawn(kit: GpuKit, name: str = "ComfyUI_00001_.png", *, color: int = 0, graph: object = GRAPH) -> Path:
    """What ComfyUI saves."""
    path = kit.output_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = PngInfo()
    texts.add_text("prompt", graph if isinstance(graph, str) else json.dumps(graph))
    texts.add_text("workflow", json.dumps({"nodes": [], "version": 0.4}))
    Image.new("RGB", (64, 32), (color, 0, 0)).save(path, pnginfo=texts)
    return path


async def assets(resources: Resources) -> list[GeneratedAsset]:
    async with resources.sessions() as session:
        return list(await session.scalars(sa.select(GeneratedAsset)))


async def test_a_picture_is_in_the_history_with_its_graph_and_a_job_that_is_done(
    kit: GpuKit, resources: Resources
) -> None:
    path = drawn(kit)
    original = path.read_bytes()
    assert await keep_pictures(kit, resources) == 1
    (asset,) = await assets(resources)
    assert asset.status == "completed"
    assert asset.generation_config["source"] == "canvas"
    assert (asset.generation_config["output"]["width"], asset.generation_config["output"]["height"]) == (64, 32)
    stored = resources.storage.local_path(generation.require_file(asset))
    assert stored is not None
    assert stored.read_bytes() == original
    assert path.exists(), "the canvas goes on showing it"
    async with resources.sessions() as session:
        job = await session.get_one(Job, generation.task_of(asset))
        assert_rows_sound(job, asset)
        found = await canvas_graphs.of_asset(session, resources.storage, resources.settings, asset.id)
        assert (await session.scalars(sa.select(UnrecordedFile))).all() == []
    assert found.prompt == with_own_prefixes(GRAPH)
    assert found.workflow == {"nodes": [], "version": 0.4}


async def test_it_comes_once_whatever_happens_and_not_again_when_it_was_deleted(
    kit: GpuKit, resources: Resources
) -> None:
    path = drawn(kit)
    await keep_pictures(kit, resources)
    path.chmod(0o644)  # the worker died before it had noted that the picture is kept
    assert await keep_pictures(kit, resources) == 0
    (asset,) = await assets(resources)
    async with resources.sessions.begin() as session:
        await gallery.delete(session, asset.id)
    assert await keep_pictures(kit, resources) == 0
    assert [asset.deleted_at is not None for asset in await assets(resources)] == [True]


async def test_its_loras_are_those_of_the_library_and_others(kit: GpuKit, resources: Resources) -> None:
    key = "models/me-1a2b3c4d.safetensors"
    model = Model(name="me", base_model="flux-tiny", storage_path=key, file_size_mb=1, model_metadata={"sha256": "0"})
    async with resources.sessions.begin() as session:
        session.add(model)
    stack = [LoraUse("mine.safetensors", 1.0), LoraUse("me-1a2b3c4d.safetensors", 0.5)]
    drawn(kit, graph=bind(TEMPLATE, TEMPLATE.defaults(), stack))
    assert await keep_pictures(kit, resources) == 1
    (asset,) = await assets(resources)
    assert asset.model_id == model.id
    (lora,) = asset.generation_config["loras"]
    assert (lora["model_id"], lora["scale"], lora["storage_path"]) == (str(model.id), 0.5, key)
    assert asset.generation_config["other_loras"] == [{"file": "mine.safetensors", "scale": 1.0}]


async def test_pictures_of_jobs_are_left_to_them(kit: GpuKit, resources: Resources) -> None:
    drawn(kit, "masuka/a-job_00001_.png")
    drawn(kit, "mine/masuka_00001_.png", color=1)
    assert await keep_pictures(kit, resources) == 1
    (asset,) = await assets(resources)
    assert asset.generation_config["output"]["sha256"]


async def test_a_picture_that_is_still_written_is_waited_for(kit: GpuKit, resources: Resources) -> None:
    path = drawn(kit)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert await keep_pictures(kit, resources) == 0
    path.write_bytes(whole)
    assert await keep_pictures(kit, resources) == 1


async def test_a_damaged_picture_is_given_up_in_the_end(kit: GpuKit, resources: Resources) -> None:
    path = drawn(kit)
    path.write_bytes(path.read_bytes()[:-20])
    long_ago = time.time() - UNFINISHED_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert await keep_pictures(kit, resources) == 0
    assert not path.stat().st_mode & 0o222


@pytest.mark.parametrize("graph", ["not json", "[]", "{}", '{"1": 5}'])
async def test_a_picture_with_an_odd_graph_is_a_picture(kit: GpuKit, resources: Resources, graph: str) -> None:
    drawn(kit, graph=graph)
    assert await keep_pictures(kit, resources) == 1


async def test_one_that_cannot_be_stored_now_is_tried_again(
    kit: GpuKit, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(kit)

    async def away(*_: object) -> None:
        raise StorageError("The storage is away.")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "put_file", away)
        assert await keep_pictures(kit, resources) == 0
    assert await keep_pictures(kit, resources) == 1


async def test_a_mistake_of_ours_with_one_picture_costs_no_other_and_not_the_worker(
    kit: GpuKit, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(kit)

    def wrong(*_: object) -> None:
        raise KeyError("nobody thought of this")

    with monkeypatch.context() as patched:
        patched.setattr(canvas_pictures, "described", wrong)
        assert await keep_pictures(kit, resources) == 0
    assert await keep_pictures(kit, resources) == 1


async def test_copies_that_are_in_the_history_do_not_fill_the_disk(kit: GpuKit, resources: Resources) -> None:
    path = drawn(kit)
    await keep_pictures(kit, resources)
    long_ago = time.time() - SHOWN_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    await keep_pictures(kit, resources)
    assert not path.exists()
    assert len(await assets(resources)) == 1
