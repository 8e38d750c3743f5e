"""Captionings by a real GPU worker's kit: image by image, whatever dies, fails or is changed meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from api.domain.captioning import CaptionerName
from api.domain.job import Kind, Queue, StopReason
from api.engines import gpu
from api.errors import ConflictError, InputError, UnavailableError
from api.models import Captioning, Dataset
from api.processes import process_start
from api.resources import Resources, open_resources
from api.scratch import scratch_root
from api.services import captionings, captions, datasets, jobs
from api.services.captionings import CaptionRequest
from api.services.captions import NewCaption
from api.settings import PROJECT_ROOT, Settings
from api.tasks import attempt as attempts
from api.tasks import caption as caption_task
from api.tasks.caption import caption
from api.tasks.dispatch import Dispatcher
from api.tasks.gpu import GpuKit
from tests.captioner.stand import REVISION, Stand, with_fake_captioner
from tests.dataset_rows import image_rows
from tests.tasks.stage import on_duty, published
from tests.up_process import environment
from tests.waiting import until

NAMES = ["00000-0.png", "00001-1.png", "00002-2.png"]
SAID = [f"ohwx, <DETAILED_CAPTION> about {name}" for name in NAMES]


@pytest.fixture
async def resources(settings: Settings, valkey_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(with_fake_captioner(settings, tmp_path), valkey_url) as opened:
        yield opened


@pytest.fixture
def stand(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """On a machine with the memory that the real weights need."""
    monkeypatch.setattr(caption_task, "available_bytes", lambda: 64 * caption_task.GIB)
    return Stand(resources)


@pytest.fixture
async def worker(resources: Resources) -> AsyncIterator[Dispatcher]:
    """On duty."""
    dispatcher = Dispatcher(resources, Queue.GPU, {Kind.CAPTION: partial(caption, GpuKit(resources))})
    async with on_duty(dispatcher):
        yield dispatcher


@pytest.mark.usefixtures("worker")
async def test_every_image_gets_a_caption_that_says_who_wrote_it(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PUBLISH_INTERVAL_SECONDS", 0.0)  # three captions take less than it
    dataset_id = await stand.dataset("", "", "")
    row = await stand.begin(dataset_id)
    assert (row.total, row.status, await stand.generated(dataset_id)) == (3, "pending", False)
    job = await stand.ended(row)
    assert (job.status, job.error_code, job.attempt) == ("completed", None, 1)
    assert await stand.captions(dataset_id) == SAID
    assert [image.caption_source for image in await stand.images(dataset_id)] == ["florence-2"] * 3
    about = (await stand.images(dataset_id))[0].caption_provenance
    assert about.pop("at")
    assert about == {
        "captioner": "florence-2",
        "model": "florence-community/Florence-2-large",
        "revision": REVISION,
        "style": "detailed_caption",
        "prompt": "<DETAILED_CAPTION>",
        "captioning_id": str(row.id),
    }
    assert await stand.generated(dataset_id)
    after: Captioning = await stand.row(Captioning, row.id)
    assert (after.status, after.revision, after.completed_at is not None) == ("completed", REVISION, True)
    assert len(set(stand.asked)) == 3
    assert list(scratch_root(stand.resources.settings).iterdir()) == []
    told = await published(stand.resources, job.id)
    assert {"preparing", "loading", "captioning", "completed"} <= {snapshot["stage"] for snapshot in told}
    assert {snapshot["status"] for snapshot in told} == {"captioning", "completed"}
    assert (told[-1]["step"], told[-1]["total_steps"], told[-1]["progress"]) == (3, 3, 100.0)


@pytest.mark.usefixtures("worker")
async def test_what_people_wrote_is_kept_unless_told_otherwise(stand: Stand) -> None:
    dataset_id = await stand.dataset("my own words", "", "")
    await stand.ended(await stand.begin(dataset_id))
    assert await stand.captions(dataset_id) == ["my own words", *SAID[1:]]
    with pytest.raises(ConflictError, match="overwrite") as refused:
        await stand.begin(dataset_id, overwrite="nothing")
    assert refused.value.code == "nothing_to_caption"
    (stand.folder / "asked.txt").unlink()
    await stand.ended(await stand.begin(dataset_id, style="caption"))  # those of captioners
    assert stand.names == NAMES[1:]
    await stand.ended(await stand.begin(dataset_id, overwrite="everything", add_trigger_word=False, style="caption"))
    assert await stand.captions(dataset_id) == [f"<CAPTION> about {name}" for name in NAMES]


@pytest.mark.usefixtures("worker")
async def test_only_what_is_named_is_captioned_and_it_can_be_undone(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "mine", "")
    second = (await stand.images(dataset_id))[1]
    await stand.ended(await stand.begin(dataset_id, only=[second.id], overwrite="everything"))
    assert await stand.captions(dataset_id) == ["", SAID[1], ""]
    async with stand.resources.sessions.begin() as session:
        await captions.undo(session, dataset_id)
    again = (await stand.images(dataset_id))[1]
    assert (again.caption, again.caption_source, again.caption_provenance) == ("mine", "uploaded", {})


@pytest.mark.usefixtures("worker")
async def test_an_image_that_fails_does_not_fail_the_rest(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "", "", "")
    images = await stand.images(dataset_id)
    stand.tell(**{NAMES[0]: ["fail", "image_unreadable"], NAMES[1]: ["say", " \n"]})
    await stand.resources.storage.delete(images[2].key)
    row = await stand.begin(dataset_id)
    job = await stand.ended(row)
    assert job.status == "completed"
    assert job.progress["message"] == "1 captioned, 3 failed"
    outcomes = await stand.outcomes(row)
    assert [item.error_code for item in outcomes] == [
        "image_unreadable",
        "caption_empty",
        "dataset_files_missing",
        None,
    ]
    assert [item.status for item in outcomes] == ["failed", "failed", "failed", "captioned"]
    assert (await stand.captions(dataset_id))[:3] == ["", "", ""]


@pytest.mark.usefixtures("worker")
async def test_when_all_fail_the_job_does_and_a_retry_tries_them_again(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "")
    stand.tell(png=["fail", "image_unreadable"])
    row = await stand.begin(dataset_id)
    job = await stand.ended(row)
    assert (job.status, job.error_code, job.attempt) == ("failed", "captions_failed", 1)
    assert job.error_message is not None
    assert "it cannot be described" in job.error_message
    assert not await stand.generated(dataset_id)
    stand.tell()
    async with stand.resources.sessions.begin() as session:
        await jobs.retry(session, job.id)
    assert (await stand.ended(row)).status == "completed"
    assert await stand.captions(dataset_id) == SAID[:2]
    assert {item.error_code for item in await stand.outcomes(row)} == {None}


# ---- what dies ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
async def test_a_captioner_that_is_killed_costs_nothing_that_it_has_said(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "", "")
    stand.tell(**{NAMES[1]: ["die once"]})
    row = await stand.begin(dataset_id)
    job = await stand.ended(row)
    assert (job.status, job.attempt) == ("completed", 2)
    assert stand.names == [NAMES[0], NAMES[1], NAMES[1], NAMES[2]]
    assert await stand.captions(dataset_id) == [SAID[0], "ohwx, after all", SAID[2]]


@pytest.mark.usefixtures("worker")
async def test_an_image_that_kills_the_captioner_is_left_out(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "", "")
    stand.tell(**{NAMES[1]: ["die"]})
    row = await stand.begin(dataset_id)
    job = await stand.ended(row)
    assert (job.status, job.attempt) == ("completed", 3)
    assert await stand.captions(dataset_id) == [SAID[0], "", SAID[2]]
    outcome = (await stand.outcomes(row))[1]
    assert (outcome.status, outcome.error_code, outcome.failures) == ("failed", "captioner_died", 2)


@pytest.mark.timeout(120)
async def test_a_worker_that_is_killed_loses_nothing(stand: Stand, valkey_url: str) -> None:
    dataset_id = await stand.dataset("", "", "")
    stand.tell(**{NAMES[1]: ["hang"]})
    row = await stand.begin(dataset_id)
    with worker_process(stand.resources.settings, valkey_url) as pid:
        await until(lambda: stand.names == NAMES[:2], 60)
        captioner = stand.asked[-1][0]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: process_start(captioner) is None)
    assert (await stand.captions(dataset_id))[0] == SAID[0]
    (stand.folder / "go").touch()
    with worker_process(stand.resources.settings, valkey_url):
        job = await stand.ended(row, 60)
    assert (job.status, job.attempt) == ("completed", 2)
    assert stand.names == [NAMES[0], NAMES[1], NAMES[1], NAMES[2]]


@contextmanager
def worker_process(settings: Settings, redis_url: str) -> Iterator[int]:
    """The real GPU worker; its pid."""
    command = [sys.executable, "-m", "api.worker_gpu"]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment(settings, REDIS_URL=redis_url))
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


async def test_a_shutdown_leaves_the_rest_to_the_next_start(stand: Stand, worker: Dispatcher) -> None:
    dataset_id = await stand.dataset("", "", "")
    stand.tell(**{NAMES[1]: ["hang"]})
    row = await stand.begin(dataset_id)
    await until(lambda: len(stand.asked) == 2)
    (attempt,) = worker.attempts.values()
    attempt.stop(StopReason.SHUTDOWN)
    (stand.folder / "go").touch()
    job = await stand.ended(row)
    assert (job.status, job.attempt) == ("completed", 1)
    assert stand.names == [NAMES[0], NAMES[1], NAMES[1], NAMES[2]]


@pytest.mark.usefixtures("worker")
async def test_a_cancel_ends_the_captioner_and_keeps_what_it_has_said(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "", "")
    stand.tell(**{NAMES[1]: ["hang"]})
    row = await stand.begin(dataset_id)
    await until(lambda: len(stand.asked) == 2)
    async with stand.resources.sessions.begin() as session:
        await jobs.request_cancel(session, captionings.task_of(row))
    job = await stand.ended(row)
    assert job.status == "cancelled"
    assert process_start(stand.asked[0][0]) is None
    assert await stand.captions(dataset_id) == [SAID[0], "", ""]
    (stand.folder / "go").touch()
    async with stand.resources.sessions.begin() as session:
        await jobs.retry(session, job.id)
    await stand.ended(row)
    assert stand.names[2:] == NAMES[1:]


# ---- what is changed meanwhile -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
async def test_what_a_person_does_meanwhile_is_not_overruled(stand: Stand) -> None:
    dataset_id = await stand.dataset("", "", "", "")
    first = (await stand.images(dataset_id))[0]
    stand.tell(**{NAMES[0]: ["hang"]})
    row = await stand.begin(dataset_id, overwrite="everything")
    await until(lambda: stand.asked)
    async with stand.resources.sessions.begin() as session:
        await captions.set_captions(session, dataset_id, {first.id: NewCaption("my words")}, what="by hand")
        _, _, removed, replaced = await image_rows(session, dataset_id)
        await session.delete(removed)
        replaced.sha256 = "of another picture"
    (stand.folder / "go").touch()
    assert (await stand.ended(row)).status == "completed"
    assert await stand.captions(dataset_id) == ["my words", SAID[1], ""]
    assert [item.status for item in await stand.outcomes(row)] == ["kept", "captioned", "kept", "kept"]


async def test_a_dataset_that_is_captioned_is_neither_deleted_nor_captioned_twice(stand: Stand) -> None:
    dataset_id = await stand.dataset("")
    row = await stand.begin(dataset_id)
    with pytest.raises(ConflictError) as refused:
        await stand.begin(dataset_id)
    assert (refused.value.code, refused.value.value) == ("captioning_active", str(row.id))
    async with stand.resources.sessions.begin() as session:
        with pytest.raises(ConflictError, match="captioning") as kept:
            await datasets.delete(session, dataset_id)
        assert kept.value.code == "dataset_in_use"
        await jobs.request_cancel(session, captionings.task_of(row))
        await datasets.delete(session, dataset_id)
        assert not (await session.get_one(Dataset, dataset_id)).is_processed


# ---- what is asked for and cannot be -----------------------------------------------------------------------------


async def test_what_cannot_be_is_refused_and_writes_nothing(stand: Stand) -> None:
    dataset_id, other = await stand.dataset(""), await stand.dataset("")
    stranger = (await stand.images(other))[0].id
    with pytest.raises(InputError) as refused:
        await stand.begin(dataset_id, only=[stranger])
    assert (refused.value.code, refused.value.value) == ("image_unknown", str(stranger))
    async with stand.resources.sessions() as session:
        request = CaptionRequest(captioner=CaptionerName.JOYCAPTION)
        with pytest.raises(UnavailableError, match="masuka install joycaption") as missing:
            await captionings.submit(session, stand.resources.settings, ["florence-2"], dataset_id, request)
        assert missing.value.code == "captioner_not_installed"
        assert await captionings.active(session, dataset_id) == []


@pytest.mark.usefixtures("worker")
async def test_a_captioner_that_does_not_fit_is_not_started(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_task, "available_bytes", lambda: 3 * caption_task.GIB)
    monkeypatch.setattr(gpu, "free_vram_gb", lambda: None)
    job = await stand.ended(await stand.begin(await stand.dataset(""), captioner="joycaption"))
    assert (job.status, job.error_code) == ("failed", "memory_too_small")
    assert job.error_message == "joycaption needs 19 GB of the machine's memory, and 3.0 GB are free."
