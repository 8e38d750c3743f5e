"""Which training a cell means: asked of the real API, without a worker."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.colab import training, watching
from api.colab.client import Api
from api.colab.drawing import wishes_of as drawing_wishes
from api.colab.errors import NotebookError, ServiceProblem
from api.colab.programs import Programs
from api.colab.show import Live
from api.colab.training import Plan
from api.domain.job import Queue
from api.queue import open_redis
from api.selftest.dataset import make_dataset
from api.services import workers
from api.settings import Settings
from tests.service import over_http, with_values

PICTURES = 4
WISHES = {"base_model": "flux-tiny", "steps": 10, "resolution": 64, "rank": 4}


@pytest.fixture
async def http(settings: Settings, valkey_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with over_http(with_values(settings, redis_url=valkey_url)) as client:
        redis = open_redis(valkey_url)
        await redis.set(
            workers.pulse_key(Queue.GPU), '{"comfyui": "asleep", "bases": ["flux-tiny"], "captioners": ["florence-2"]}'
        )
        await redis.aclose(close_connection_pool=True)
        yield client


@pytest.fixture
def api(http: httpx.AsyncClient) -> Api:
    return Api(str(http.base_url).rstrip("/"), "")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for path in make_dataset(tmp_path / "photos")[2 * PICTURES :]:
        path.unlink()
    return Plan("star", str(tmp_path / "photos"), "ohwx", "", WISHES)


@pytest.fixture(autouse=True)
def _nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would ever come."""
    monkeypatch.setattr(watching, "watch", lambda api, session: session)


async def trained(api: Api, plan: Plan) -> dict[str, Any]:
    programs = Programs(Path("/nowhere"), {})
    return await asyncio.to_thread(training.train, api, programs, Path("/nowhere"), plan)


async def test_a_cell_that_runs_again_means_the_same_training(
    api: Api, http: httpx.AsyncClient, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await trained(api, plan)
    assert {"name": first["name"], **first["config"]}.items() >= {
        "name": "star",
        "trigger_word": "ohwx",
        **WISHES,
    }.items()
    said = capsys.readouterr().out
    assert f"Preflight of {PICTURES} pictures" in said
    assert f"{PICTURES} pictures taken" in said
    again = await trained(api, replace(plan, source="", wishes={}))  # one of this name waits: nothing else is looked at
    assert again["id"] == first["id"]

    await http.post(f"/api/training/{first['id']}/cancel")
    resumed = await trained(api, plan)
    assert (resumed["id"], resumed["status"]) == (first["id"], "pending")
    assert "It was cancelled, and goes on from step 0" in capsys.readouterr().out

    await asyncio.to_thread(training.cancel, api, "star")
    other = await trained(api, replace(plan, wishes={**WISHES, "rank": 8}))
    assert (other["id"] != first["id"], other["dataset_id"]) == (True, first["dataset_id"])
    assert len((await http.get("/api/datasets/")).json()["items"]) == 1
    assert len((await http.get("/api/training/")).json()["items"]) == 2


async def test_captions_are_written_where_people_wrote_none(
    api: Api, http: httpx.AsyncClient, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    followed: list[str] = []

    def follow(api: Api, any_id: str, live: Live, what: str) -> dict[str, Any]:
        followed.append(any_id)
        return {"status": "completed"}

    monkeypatch.setattr(watching, "follow", follow)
    await trained(api, replace(plan, captioner="florence-2"))
    assert (followed, "Every picture has a caption already." in capsys.readouterr().out) == ([], True)
    for path in Path(plan.source).glob("*.txt"):
        path.unlink()
    await trained(api, replace(plan, name="moon", captioner="florence-2"))
    (captioning,) = (await http.get("/api/captionings/")).json()["items"]
    assert (captioning["captioner"], captioning["total"], followed) == ("florence-2", PICTURES, [captioning["id"]])


async def test_other_pictures_are_another_dataset(api: Api, http: httpx.AsyncClient, plan: Plan) -> None:
    first = await trained(api, plan)
    await asyncio.to_thread(training.cancel, api, "star")
    next(Path(plan.source).glob("*.txt")).write_text("another caption of ohwx")
    second = await trained(api, plan)
    assert (first["dataset_id"] == second["dataset_id"], first["id"] == second["id"]) == (False, False)


async def test_what_cannot_be_trained_is_said_and_starts_nothing(api: Api, http: httpx.AsyncClient, plan: Plan) -> None:
    with pytest.raises(NotebookError, match="Set NAME"):
        await trained(api, replace(plan, name=" "))
    with pytest.raises(NotebookError, match="No training 'star'"):
        await asyncio.to_thread(training.cancel, api, "star")
    with pytest.raises(ServiceProblem, match="rank"):
        await trained(api, replace(plan, wishes={**WISHES, "rank": 1000}))
    assert (await http.get("/api/training/")).json()["items"] == []


def test_nothing_and_zero_are_no_wishes_and_the_small_model_has_its_own() -> None:
    assert training.wishes_of("flux-dev", {"steps": 0, "preset": "", "rank": 8}) == {
        "base_model": "flux-dev",
        "rank": 8,
    }
    tiny = training.wishes_of("flux-tiny", {"steps": 5})
    assert (tiny["steps"], tiny["resolution"], tiny["base_model"]) == (5, 64, "flux-tiny")
    assert training.wishes_of("flux-tiny", {"base_model": "flux-dev"}) == {"base_model": "flux-dev"}
    drawn = drawing_wishes("flux-tiny", {"seed": 0, "lora_scale": 0.0, "width": 0, "num_inference_steps": 4})
    assert drawn == {
        "base_model": "flux-tiny", "width": 64, "height": 64, "num_inference_steps": 4, "seed": 0, "lora_scale": 0.0,
    }  # fmt: skip
    assert drawing_wishes("flux-dev", {"seed": -1, "guidance_scale": 3}) == {
        "base_model": "flux-dev",
        "guidance_scale": 3,
    }


def test_a_name_is_never_a_path() -> None:
    assert training.safe("ohwx-1") == "ohwx-1"
    assert {training.safe("../x").isalnum(), training.safe("a b").isalnum()} == {True}
