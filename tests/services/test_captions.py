"""Captions are written in steps, and steps are undone one after the other."""

import asyncio
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from api.db import Sessions
from api.errors import ChangedError, ConflictError, NotFoundError
from api.models import CaptionChange, CaptionEdit, Dataset, DatasetImage
from api.services import captions, datasets
from api.services.captions import NewCaption, Undone
from tests.dataset_rows import add_dataset, image_rows


async def dataset(sessions: Sessions, *texts: str) -> tuple[UUID, list[UUID]]:
    """Its id, and those of its images."""
    async with sessions.begin() as session:
        dataset_id = await add_dataset(session, *texts)
        return dataset_id, [row.id for row in await image_rows(session, dataset_id)]


async def rows_of(sessions: Sessions, dataset_id: UUID) -> list[DatasetImage]:
    async with sessions() as session:
        return await image_rows(session, dataset_id)


async def texts_of(sessions: Sessions, dataset_id: UUID) -> list[str]:
    return [row.caption for row in await rows_of(sessions, dataset_id)]


async def write(
    sessions: Sessions, dataset_id: UUID, new: dict[UUID, NewCaption], job_id: UUID | None = None
) -> set[UUID]:
    async with sessions.begin() as session:
        return await captions.set_captions(session, dataset_id, new, what="a test", job_id=job_id)


async def undo(sessions: Sessions, dataset_id: UUID) -> Undone:
    async with sessions.begin() as session:
        return await captions.undo(session, dataset_id)


async def test_steps_are_undone_one_after_the_other_with_source_and_provenance(sessions: Sessions) -> None:
    dataset_id, (a, b) = await dataset(sessions, "one", "two")
    machine = NewCaption(" a\n man ", "florence-2", {"model": "base", "revision": "0f"})
    assert await write(sessions, dataset_id, {a: machine}) == {a}
    await write(sessions, dataset_id, {a: NewCaption("me"), b: NewCaption("")})
    after = await rows_of(sessions, dataset_id)
    assert [(row.caption, row.caption_source) for row in after] == [("me", "manual"), ("", "none")]

    second = await undo(sessions, dataset_id)
    assert (second.edit.number, set(second.restored), second.skipped) == (2, {a, b}, [])
    between = (await rows_of(sessions, dataset_id))[0]
    assert (between.caption, between.caption_source, between.caption_provenance) == (
        "a man",
        "florence-2",
        {"model": "base", "revision": "0f"},
    )
    await undo(sessions, dataset_id)
    assert [(row.caption, row.caption_source) for row in await rows_of(sessions, dataset_id)] == [
        ("one", "uploaded"),
        ("two", "uploaded"),
    ]
    with pytest.raises(ConflictError) as refused:
        await undo(sessions, dataset_id)
    assert refused.value.code == "nothing_to_undo"


async def test_what_a_job_writes_one_by_one_is_one_step_that_remembers_the_first_text(sessions: Sessions) -> None:
    dataset_id, ids = await dataset(sessions, "one", "two")
    job_id = uuid4()
    for image_id, text in zip((*ids, ids[0]), ("1", "2", "3"), strict=True):
        await write(sessions, dataset_id, {image_id: NewCaption(text, "florence-2")}, job_id)
    assert await texts_of(sessions, dataset_id) == ["3", "2"]
    await undo(sessions, dataset_id)
    assert await texts_of(sessions, dataset_id) == ["one", "two"]


async def test_what_a_job_writes_after_its_step_was_undone_can_be_undone_too(sessions: Sessions) -> None:
    dataset_id, (a, b) = await dataset(sessions, "one", "two")
    job_id = uuid4()
    await write(sessions, dataset_id, {a: NewCaption("1")}, job_id)
    await undo(sessions, dataset_id)
    await write(sessions, dataset_id, {b: NewCaption("2")}, job_id)
    await undo(sessions, dataset_id)
    assert await texts_of(sessions, dataset_id) == ["one", "two"]


async def test_what_is_said_of_a_picture_is_not_said_of_another_in_its_place(sessions: Sessions) -> None:
    dataset_id, (a, b) = await dataset(sessions, "one", "two")
    async with sessions.begin() as session:
        pictures = {image.id: image.sha256 for image in await datasets.images(session, dataset_id)}
        (await session.get_one(DatasetImage, a)).sha256 = "another"
    machine = {image_id: NewCaption("a man", "florence-2", of_picture=pictures[image_id]) for image_id in (a, b)}
    assert await write(sessions, dataset_id, machine) == {b}
    assert await texts_of(sessions, dataset_id) == ["one", "a man"]


async def test_what_a_person_wrote_meanwhile_is_not_overwritten(sessions: Sessions) -> None:
    dataset_id, (a, b) = await dataset(sessions, "one", "two")
    await write(sessions, dataset_id, {a: NewCaption("mine")})
    machine = {
        image_id: NewCaption("a man", "florence-2", instead_of=text) for image_id, text in ((a, "one"), (b, "two"))
    }
    assert await write(sessions, dataset_id, {**machine, uuid4(): NewCaption("gone")}) == {b}
    assert await texts_of(sessions, dataset_id) == ["mine", "a man"]


async def test_an_undo_leaves_alone_what_other_means_have_changed_or_removed(sessions: Sessions) -> None:
    dataset_id, (a, b, c) = await dataset(sessions, "one", "two", "three")
    await write(sessions, dataset_id, {image_id: NewCaption("x") for image_id in (a, b, c)})
    async with sessions.begin() as session:
        (await session.get_one(DatasetImage, a)).caption = "restored"
        await session.delete(await session.get_one(DatasetImage, b))
    undone = await undo(sessions, dataset_id)
    assert (undone.restored, set(undone.skipped)) == ([c], {a, b})
    assert await texts_of(sessions, dataset_id) == ["restored", "three"]


async def test_a_caption_that_stays_the_same_is_no_step(sessions: Sessions) -> None:
    dataset_id, (a,) = await dataset(sessions, "one")
    await write(sessions, dataset_id, {a: NewCaption("one", "uploaded")})
    with pytest.raises(ConflictError):
        await undo(sessions, dataset_id)


async def test_a_change_of_what_is_no_more_there_is_refused(sessions: Sessions) -> None:
    dataset_id, (a,) = await dataset(sessions, "one")
    await write(sessions, dataset_id, {a: NewCaption("me")})
    with pytest.raises(ChangedError):
        async with sessions.begin() as session:
            await captions.set_captions(session, dataset_id, {a: NewCaption("you")}, what="a test", revision=0)
    assert await texts_of(sessions, dataset_id) == ["me"]
    with pytest.raises(NotFoundError):
        await write(sessions, uuid4(), {a: NewCaption("you")})


async def test_changes_at_the_same_time_are_all_in_the_log(sessions: Sessions) -> None:
    dataset_id, ids = await dataset(sessions, *"abcdefgh")
    await asyncio.gather(*(write(sessions, dataset_id, {image_id: NewCaption("x")}) for image_id in ids))
    async with sessions() as session:
        assert (await session.get_one(Dataset, dataset_id)).revision == len(ids)
    for _ in ids:
        await undo(sessions, dataset_id)
    assert await texts_of(sessions, dataset_id) == list("abcdefgh")


async def test_old_steps_are_forgotten(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "STEPS_KEPT", 2)
    dataset_id, (a,) = await dataset(sessions, "0")
    for n in range(1, 5):
        await write(sessions, dataset_id, {a: NewCaption(str(n))})
    async with sessions() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(CaptionEdit)) == 2
        assert await session.scalar(sa.select(sa.func.count()).select_from(CaptionChange)) == 2
    for _ in range(2):
        await undo(sessions, dataset_id)
    assert await texts_of(sessions, dataset_id) == ["2"]
