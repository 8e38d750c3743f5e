"""`/api/training/presets` and `/options`, and trainings that are asked for with them."""

import json
from typing import Any

import pytest

from api.domain.job import Queue
from api.services import workers
from tests.service import Service, assert_problem

PRESETS, OPTIONS, TRAIN = "/api/training/presets", "/api/training/options", "/api/training/flux"


async def gpu_worker_says(service: Service, **more: Any) -> None:
    said = {"comfyui": "asleep", "comfyui_error": None, "bases": ["flux-dev", "flux-tiny"], **more}
    await service.resources.redis.set(workers.pulse_key(Queue.GPU), json.dumps(said))


async def names(service: Service, **filters: Any) -> list[str]:
    response = await service.client.get(PRESETS, params=filters)
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["items"]]


async def post(service: Service, **body: Any) -> Any:
    dataset = await service.dataset()
    return await service.client.post(TRAIN, json={"dataset_id": dataset["id"], **body})


async def test_presets_are_found_by_card_and_subject(service: Service) -> None:
    assert len(await names(service)) == 15
    assert await names(service, subject="style") == [f"{card}gb-style" for card in (12, 16, 24, 40, 80)]
    assert await names(service, vram=20) == ["16gb-person", "16gb-style", "16gb-product"]
    assert await names(service, vram=23.6, subject="person") == ["24gb-person"]
    assert await names(service, vram=6) == []
    assert_problem(await service.client.get(PRESETS, params={"subject": "cat"}), 422, "validation_failed")


@pytest.mark.parametrize(
    ("vram", "fitting", "best"), [(23.6, {12, 16, 24}, {24}), (None, set(), set()), (8.0, set(), set())]
)
async def test_it_is_told_which_fit_the_gpu_that_trains(
    service: Service, vram: float | None, fitting: set[int], best: set[int]
) -> None:
    await gpu_worker_says(service, vram_gb=vram)
    body = (await service.client.get(PRESETS)).json()

    assert body["vram_gb"] == vram
    assert {item["vram_gb"] for item in body["items"] if item["fits"]} == fitting
    assert {item["vram_gb"] for item in body["items"] if item["recommended"]} == best
    rank = body["items"][0]["fields"]["rank"]
    assert rank["value"] == 16
    assert rank["why"]
    assert rank["changing"]


async def test_a_training_takes_its_presets_values_where_the_request_says_nothing(service: Service) -> None:
    await gpu_worker_says(service)
    config = (await post(service, preset="12gb-product", rank=4)).json()["config"]

    expected = {"preset": "12gb-product", "rank": 4, "alpha": 8.0, "steps": 1500, "resolution": 512}
    assert (expected | {"base_model_precision": "nf4-bnb", "lr_warmup_steps": 100}).items() <= config.items()


async def test_a_preset_that_there_is_not_starts_nothing(service: Service) -> None:
    await gpu_worker_says(service)
    before = await service.traces()
    problem = assert_problem(await post(service, preset="24gb-cat"), 422, "preset_unknown")
    assert "24gb-style" in problem["hint"]
    assert (await service.traces())["training_session"] == before["training_session"]


async def test_options_of_the_trainer_that_is_installed_are_listed(service: Service) -> None:
    await gpu_worker_says(service, trainer="3.1.6")
    body = (await service.client.get(OPTIONS)).json()

    assert body["trainer_version"] == "3.1.6"
    listed = {item["name"]: item for item in body["items"]}
    assert listed["loss_type"] == {
        "name": "loss_type", "kind": "choice", "choices": ["l2", "huber", "smooth_l1"], "least": None, "most": None
    }  # fmt: skip
    assert not listed.keys() & {"output_dir", "push_to_hub", "lora_rank", "report_to"}


async def test_an_expert_block_is_recorded_as_it_was_checked(service: Service) -> None:
    await gpu_worker_says(service, trainer="3.1.6")
    response = await post(service, expert={"loss_type": "huber", "max_grad_norm": 0.5, "lr_num_cycles": 2})

    assert response.status_code == 201, response.text
    assert response.json()["config"]["expert"] == {"loss_type": "huber", "max_grad_norm": 0.5, "lr_num_cycles": 2}


async def test_every_expert_option_that_is_refused_is_named_with_its_place(service: Service) -> None:
    await gpu_worker_says(service, trainer="3.1.6")
    response = await post(service, expert={"output_dir": "/etc", "loss_typ": "huber", "max_grad_norm": 0.5})

    problem = assert_problem(response, 422, "expert_refused")
    assert [(error["loc"], error["type"]) for error in problem["errors"]] == [
        (["body", "expert", "output_dir"], "expert_option_reserved"),
        (["body", "expert", "loss_typ"], "expert_option_unknown"),
    ]
    assert "did you mean loss_type?" in problem["errors"][1]["msg"]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
async def test_an_expert_value_is_one_plain_value(service: Service, value: Any) -> None:
    await gpu_worker_says(service, trainer="3.1.6")
    assert_problem(await post(service, expert={"max_grad_norm": value}), 422, "validation_failed")


async def test_options_of_a_trainer_that_was_never_asked_are_refused_and_all_else_works(service: Service) -> None:
    await gpu_worker_says(service, trainer="9.9.9")
    assert_problem(await service.client.get(OPTIONS), 503, "trainer_options_unknown")
    assert_problem(await post(service, expert={"max_grad_norm": 1.0}), 503, "trainer_options_unknown")
    assert (await post(service)).status_code == 201
