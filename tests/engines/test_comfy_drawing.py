import asyncio
import io
import json

import numpy as np
import pytest
from PIL import Image

from api.comfy.errors import PromptRejected, failure_error
from api.comfy.history import OutcomeStatus
from api.comfy.messages import Cached, Preview
from api.domain.workflow import LoraUse
from api.errors import EngineError
from tests.engines.comfy_lab import ATTENTION, HIDDEN, SAVE, STEPS, Lab

pytestmark = [
    pytest.mark.engines,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),  # ComfyUI takes 5 s to start, and most of a minute on a machine that is busy
]


async def test_a_prompt_becomes_a_picture_and_every_sampling_step_is_told(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing()
        outcome = await lab.draw(client, drawing)
        path = await lab.fetch(client, outcome)
    assert outcome.status is OutcomeStatus.SUCCESS
    assert isinstance(drawing.told[0], Cached)
    assert drawing.sampled() == list(range(1, STEPS + 1))
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
        red, _, blue = np.asarray(image, dtype=np.int16)[32, 32]
    assert red > blue + 50, "flux-tiny draws what the prompt says"


async def test_every_sampling_step_can_be_seen_as_a_small_jpeg_of_this_prompt(lab: Lab):
    seen: list[Preview] = []
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing(seed=77)  # not taken from the cache
        await client.submit(drawing.graph, drawing.prompt_id, on_preview=seen.append)
        await lab.fetch(client, await client.wait(drawing.prompt_id))
    assert len(seen) == STEPS
    for preview in seen:
        assert (preview.prompt_id, preview.image_type) == (drawing.prompt_id, "image/jpeg")
        with Image.open(io.BytesIO(preview.image)) as image:
            assert (image.format, max(image.size)) == ("JPEG", 256)


async def test_the_picture_holds_the_graph_that_made_it(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing(seed=2**53 - 1)
        path = await lab.fetch(client, await lab.draw(client, drawing))
    with Image.open(path) as image:
        assert json.loads(image.info["prompt"]) == drawing.graph


async def test_nothing_is_left_in_comfyui_once_a_picture_is_fetched(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing()
        outcome = await lab.draw(client, drawing)
        assert [path.name for path in lab.left_over()] == [outcome.outputs[0].filename]
        assert drawing.prompt_id in outcome.outputs[0].filename
        await lab.fetch(client, outcome)
        assert lab.left_over() == []
        lab.server.discard_outputs_of(drawing.prompt_id)
        with pytest.raises(EngineError) as caught:
            await client.download(outcome.outputs[0], lab.folder / "again.png")
        assert caught.value.code == "output_missing"
        await client.delete_history(drawing.prompt_id)
        assert await client.outcome(drawing.prompt_id) is None


async def test_what_an_abandoned_prompt_has_written_can_be_found_by_its_id(lab: Lab):
    async with lab.server.use(lab.base) as client:
        abandoned, kept = lab.drawing(), lab.drawing(seed=1)
        await lab.draw(client, abandoned)
        outcome = await lab.draw(client, kept)
        lab.server.discard_outputs_of(abandoned.prompt_id)
        assert [path.name for path in lab.left_over()] == [outcome.outputs[0].filename]
        await lab.fetch(client, outcome)


async def test_the_same_seed_draws_the_same_pixels_and_another_one_others(lab: Lab):
    async with lab.server.use(lab.base) as client:
        first = await lab.pixels(client, seed=1)
        other = await lab.pixels(client, seed=2)
        again = lab.drawing(seed=1)
        assert np.array_equal(first, await lab.pixels_of(client, again))
        assert again.sampled() == list(range(1, STEPS + 1)), "drawn again, not taken from the cache"
    assert not np.array_equal(first, other)


async def test_the_negative_prompt_counts_only_with_true_cfg(lab: Lab):
    async with lab.server.use(lab.base) as client:
        plain = await lab.pixels(client)
        unheard = await lab.pixels(client, negative_prompt="a green square")
        heard = await lab.pixels(client, negative_prompt="a green square", true_cfg_scale=3.0)
    assert np.array_equal(plain, unheard)
    assert not np.array_equal(plain, heard)


async def test_a_lora_changes_the_picture_as_much_as_it_is_asked_to(lab: Lab):
    async with lab.server.use(lab.base) as client:
        plain = await lab.pixels(client)
        file_name = lab.add_lora("style", ATTENTION)
        none = await lab.pixels(client, (LoraUse(file_name, 0.0),))
        half = await lab.pixels(client, (LoraUse(file_name, 0.5),))
        asked = lab.drawing((LoraUse(file_name, 1.0),))
        full = await lab.pixels_of(client, asked)
    assert np.array_equal(plain, none)
    assert np.abs(plain - full).mean() > np.abs(plain - half).mean() > 1
    assert asked.complaints() == ()


async def test_eight_loras_are_applied_together(lab: Lab):
    async with lab.server.use(lab.base) as client:
        file_name = lab.add_lora("style", ATTENTION)
        eight = await lab.pixels(client, (LoraUse(file_name, 0.125),) * 8)
        one = await lab.pixels(client, (LoraUse(file_name, 1.0),))
    assert np.abs(eight - one).max() <= 2, "only rounding is different"


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("foreign", {"transformer.nonexistent_0": (HIDDEN, HIDDEN)}),
        ("large", {next(iter(ATTENTION)): (3072, 3072)}),
    ],
)
async def test_a_lora_that_fits_nothing_is_told_by_the_log_alone(lab: Lab, name, modules):
    async with lab.server.use(lab.base) as client:
        plain = await lab.pixels(client)
        useless, innocent = lab.drawing((LoraUse(lab.add_lora(name, modules), 1.0),)), lab.drawing()
        same, _ = await asyncio.gather(lab.pixels_of(client, useless), lab.pixels_of(client, innocent))
    assert np.array_equal(plain, same)
    assert useless.complaints() != ()
    assert innocent.complaints() == ()


async def test_a_lora_that_is_not_there_is_refused_before_anything_runs(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing((LoraUse("nowhere.safetensors", 1.0),))
        with pytest.raises(PromptRejected) as caught:
            await lab.draw(client, drawing)
        assert drawing.prompt_id not in await client.queue()
    assert (caught.value.code, caught.value.value) == ("lora_missing", "nowhere.safetensors")


async def test_a_lora_that_is_no_safetensors_fails_its_own_prompt_only(lab: Lab):
    async with lab.server.use(lab.base) as client:
        (lab.server.lora_dir / "broken.safetensors").write_bytes(b"\x10" + bytes(7) + b"not a header at all")
        outcome = await lab.draw(client, lab.drawing((LoraUse("broken.safetensors", 1.0),)))
        assert outcome.status is OutcomeStatus.ERROR
        assert outcome.failure is not None
        assert failure_error(outcome.failure).code == "lora_unreadable"
        await lab.pixels(client)


async def test_a_prompt_with_one_bad_output_of_two_is_refused_and_does_not_run(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.faulty("sleep", seconds=30)
        drawing.graph["60"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "masuka/bad"}}
        with pytest.raises(PromptRejected) as caught:
            await lab.draw(client, drawing)
        assert drawing.prompt_id not in await client.queue()
    assert caught.value.code == "workflow_invalid"
    assert "SaveImage (node 60), images" in caught.value.detail


async def test_a_prompt_that_is_wholly_cached_ends_with_its_old_output(lab: Lab):
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing()
        first = await lab.draw(client, drawing)
        repeated = lab.drawing()
        repeated.graph[SAVE] = drawing.graph[SAVE]
        second = await lab.draw(client, repeated)
        await lab.fetch(client, first)
    assert second.outputs == first.outputs
    assert second.cached_nodes == frozenset(drawing.graph)
    assert repeated.sampled() == []


async def test_what_comfyui_can_do_and_has_free_is_known(lab: Lab):
    async with lab.server.use(lab.base) as client:
        nodes = await client.object_info()
        assert {"KSampler", "LoraLoaderModelOnly", "ModelSamplingFlux", "TestFault"} <= nodes.keys()
        await client.free()
        memory = await client.memory()
        assert 0 < memory.ram_free <= memory.ram_total
