"""`/api/models/{id}/card`: how a LoRA was made, as it was written down then."""

from typing import Any
from uuid import UUID

from api.models import GeneratedAsset, Model, TrainingSample
from api.models.base import utcnow
from tests.routes.test_training_checkpoints import training_with
from tests.service import Service

ENGINES = {"masuka": "0.1", "simpletuner": {"version": "3.1.6", "commit": None, "torch": "2.13"}}


async def card(service: Service, model_id: str) -> dict[str, Any]:
    response = await service.client.get(f"/api/models/{model_id}/card")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    return dict(response.json())


async def test_an_import_has_what_its_file_and_the_catalogue_say(any_service: Service) -> None:
    model = await any_service.model(rank=3, trigger_word="ohwx")
    found = await card(any_service, model["id"])
    assert found["base"] == {"name": "flux-tiny", "family": "flux", "licence": "MIT", "licence_url": None}
    assert (found["rank"], found["trigger_words"], found["session"]) == (3, ["ohwx"], None)
    assert found["sha256"] == model["model_metadata"]["sha256"]


async def test_a_promoted_checkpoint_has_the_card_of_its_training(any_service: Service) -> None:
    recorded = {"step": 250, "seed": 42, "engines": ENGINES, "config": {"steps": 2000}, "dataset": {"name": "then"}}
    training, _ = await training_with(any_service, 250, card=recorded)
    promoted = await any_service.client.post(f"/api/training/{training}/checkpoints/250/promote", json={})
    found = await card(any_service, promoted.json()["id"])
    assert recorded.items() <= found.items()
    assert found["base"]["name"] == "flux-tiny"


async def test_the_samples_of_its_step_are_on_the_card(any_service: Service) -> None:
    training, _ = await training_with(any_service, 250, card={"step": 250})
    pictures = [GeneratedAsset(prompt=prompt, status="completed") for prompt in ("a", "b", "later", "deleted")]
    pictures[3].deleted_at = utcnow()
    async with any_service.resources.sessions.begin() as session:
        session.add_all(pictures)
        await session.flush()
        for picture, step, position in zip(pictures, (250, 250, 500, 250), (1, 0, 0, 2), strict=True):
            sample = TrainingSample(session_id=UUID(training), step=step, position=position, asset_id=picture.id)
            session.add(sample)
    promoted = await any_service.client.post(f"/api/training/{training}/checkpoints/250/promote", json={})
    samples = (await card(any_service, promoted.json()["id"]))["samples"]
    assert [(each["prompt"], each["url"]) for each in samples] == [
        (picture.prompt, f"/api/assets/{picture.id}/file") for picture in (pictures[1], pictures[0])
    ]


async def test_it_is_read_as_text_under_a_name_of_its_own_and_by_accept(service: Service) -> None:
    model = await service.model()
    path = f"/api/models/{model['id']}/card"
    by_name = await service.client.get(f"{path}.md")
    by_accept = await service.client.get(path, headers={"Accept": "text/markdown, */*"})
    assert by_name.headers["content-type"] == by_accept.headers["content-type"] == "text/markdown; charset=utf-8"
    assert by_name.text == by_accept.text
    assert f"| File | `{model['file_name']}` |" in by_name.text


async def test_what_was_registered_before_there_were_cards_has_one_of_what_is_known(service: Service) -> None:
    old = Model(name="old", base_model="sdxl", storage_path="models/old.safetensors", file_size_mb=1.0)
    async with service.resources.sessions.begin() as session:
        session.add(old)
    found = await card(service, str(old.id))
    assert UUID(found["model_id"]) == old.id
    assert (found["base"], found["sha256"], found["engines"]) == ({"name": "sdxl"}, None, None)
    assert (await service.client.get(f"/api/models/{old.id}/card.md")).status_code == 200
