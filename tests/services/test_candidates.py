"""Each step of a training has one LoRA to choose; it becomes a model once, and its file goes with its last row."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions
from api.errors import ConflictError, NotFoundError
from api.models import GeneratedAsset, Model, TrainingCandidate, TrainingSession
from api.services import candidates, loras, promotion
from api.services.candidates import TakenError
from api.services.promotion import Promoted, PromoteRequest
from api.services.unrecorded import discard_abandoned
from api.settings import Settings
from api.storage import Storage, open_storage
from tests.candidates import add_candidate

CONFIG = {"alpha": 2.0, "trigger_word": "ohwx", "base_model": "flux-tiny"}


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    async with open_storage(settings) as opened:
        yield opened


@pytest.fixture
async def training(sessions: Sessions) -> TrainingSession:
    row = TrainingSession(name="me", config=CONFIG)
    async with sessions.begin() as session:
        session.add(row)
    return row


async def steps(sessions: Sessions, session_id: UUID) -> list[int]:
    async with sessions() as session:
        return [row.step for row in await candidates.of_session(session, session_id)]


async def remove(sessions: Sessions, row: TrainingCandidate) -> int:
    async with sessions.begin() as session:
        return await candidates.remove(session, [await session.get_one(TrainingCandidate, row.id)])


async def is_kept(sessions: Sessions, storage: Storage, row: TrainingCandidate) -> bool:
    """After the cpu worker has removed what nobody names."""
    await discard_abandoned(sessions, storage)
    return await storage.size(str(row.storage_path)) is not None


async def wait_for_picture(sessions: Sessions, row: TrainingCandidate) -> None:
    config = {"loras": [{"checkpoint_id": str(row.id), "storage_path": row.storage_path}]}
    async with sessions.begin() as session:
        session.add(GeneratedAsset(prompt="x", generation_config=config))


async def promote(
    sessions: Sessions, storage: Storage, training: TrainingSession, step: int, name: str | None = None
) -> Promoted:
    async with sessions.begin() as session:
        return await promotion.promote(session, storage, training, step, PromoteRequest(name=name))


# ---- come and go -------------------------------------------------------------------------------------------------


async def test_a_step_has_one_candidate_whoever_comes_first(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    came = await asyncio.gather(
        *(add_candidate(sessions, storage, training.id, 250) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(each, TrainingCandidate) for each in came) == 1
    assert sum(isinstance(each, TakenError) for each in came) == 3
    assert await steps(sessions, training.id) == [250]


async def test_one_without_a_sound_lora_has_had_its_turn_and_is_not_shown(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    await add_candidate(sessions, storage, training.id, 250, storage_path=None)
    async with sessions() as session:
        assert await candidates.done_steps(session, training.id) == {250}
        with pytest.raises(NotFoundError):
            await candidates.get(session, training.id, 250)
    assert await steps(sessions, training.id) == []


async def test_of_too_many_one_in_between_goes_with_its_file(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    rows = [await add_candidate(sessions, storage, training.id, step, most=3) for step in (250, 500, 750, 1000)]
    assert await steps(sessions, training.id) == [250, 750, 1000]
    assert [await is_kept(sessions, storage, row) for row in rows] == [True, False, True, True]


async def test_of_too_many_the_best_stays(sessions: Sessions, storage: Storage, training: TrainingSession) -> None:
    for step, loss in {250: 0.9, 500: 0.3, 750: 0.5, 1000: 0.6, 1250: 0.7}.items():
        await add_candidate(sessions, storage, training.id, step, most=3, loss=loss)
    assert await steps(sessions, training.id) == [250, 500, 1250]


async def test_where_a_trainer_went_back_the_later_takes_the_place_and_until_then_the_earlier_stays(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    first = [await add_candidate(sessions, storage, training.id, step) for step in (250, 500)]
    async with sessions.begin() as session:
        await candidates.supersede(session, training.id, 250)
        assert await candidates.done_steps(session, training.id) == {250}
    assert await steps(sessions, training.id) == [250, 500]

    later = await add_candidate(sessions, storage, training.id, 500)

    async with sessions() as session:
        assert [row.id for row in await candidates.of_session(session, training.id)] == [first[0].id, later.id]
    assert [await is_kept(sessions, storage, row) for row in (*first, later)] == [True, False, True]


async def test_what_a_picture_waits_for_stays(sessions: Sessions, storage: Storage, training: TrainingSession) -> None:
    row = await add_candidate(sessions, storage, training.id, 250)
    await wait_for_picture(sessions, row)
    with pytest.raises(ConflictError) as refused:
        async with sessions.begin() as session:
            await candidates.delete(session, [row])
    assert (refused.value.code, refused.value.value) == ("checkpoint_in_use", 250)
    assert await remove(sessions, row) == 0
    assert await steps(sessions, training.id) == [250]


# ---- promoted ----------------------------------------------------------------------------------------------------


async def test_it_becomes_a_model_at_once_and_only_once(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    row = await add_candidate(sessions, storage, training.id, 250, trigger_word="ohwx", card={"step": 250})

    promoted = await asyncio.gather(*(promote(sessions, storage, training, 250) for _ in range(3)))

    assert sorted(each.duplicate for each in promoted) == [False, True, True]
    assert len({each.model.id for each in promoted}) == 1
    model = promoted[0].model
    assert (model.name, model.base_model, model.trigger_word) == ("me step 250", "flux-tiny", "ohwx")
    assert (model.storage_path, model.card, model.training_session_id) == (row.storage_path, {"step": 250}, training.id)
    expected = {"sha256": row.sha256, "alpha": 2.0, "rank": 4, "modules": 1, "steps": 250}
    assert expected.items() <= model.model_metadata.items()


async def test_a_name_of_its_own_begins_at_version_1(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    await add_candidate(sessions, storage, training.id, 250)
    model = (await promote(sessions, storage, training, 250, "The best")).model
    assert (model.name, model.version) == ("The best", 1)


async def test_a_deleted_model_is_restored_by_promoting_it_again(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    await add_candidate(sessions, storage, training.id, 250)
    model = (await promote(sessions, storage, training, 250)).model
    async with sessions.begin() as session:
        await loras.delete(session, model.id)
    again = await promote(sessions, storage, training, 250)
    assert (again.model.id, again.model.deleted_at, again.duplicate) == (model.id, None, True)


async def test_what_the_training_itself_has_registered_is_not_promoted_beside_it(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    row = await add_candidate(sessions, storage, training.id, 250)
    final = Model(name="me", base_model="flux-tiny", storage_path="models/x", file_size_mb=1)
    final.training_session_id, final.model_metadata = training.id, {"sha256": row.sha256}
    async with sessions.begin() as session:
        session.add(final)
    assert (await promote(sessions, storage, training, 250)).model.id == final.id


async def test_one_whose_file_is_gone_is_not_promoted(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    row = await add_candidate(sessions, storage, training.id, 250)
    await storage.delete(str(row.storage_path))
    with pytest.raises(ConflictError) as refused:
        await promote(sessions, storage, training, 250)
    assert refused.value.code == "checkpoint_file_missing"


async def test_the_file_goes_with_the_last_of_candidate_and_model(
    sessions: Sessions, storage: Storage, training: TrainingSession
) -> None:
    for model_first in (True, False):
        row = await add_candidate(sessions, storage, training.id, 250 + model_first)
        model = (await promote(sessions, storage, training, row.step)).model
        for purge in (model_first, not model_first):
            assert await is_kept(sessions, storage, row)
            if not purge:
                assert await remove(sessions, row) == 1
                continue
            async with sessions.begin() as session:
                await loras.delete(session, model.id)
                await session.execute(sa.update(Model).values(deleted_at=model.created_at))
                assert await loras.purge(session, 0) == 1
        assert not await is_kept(sessions, storage, row)
    async with sessions() as session:
        assert not (await session.scalars(sa.select(col(Model.id)))).all()
