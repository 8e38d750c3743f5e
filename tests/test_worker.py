"""A worker's life: what it says of itself, how it ends, and what it does when a part of it fails."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from api.domain.job import Kind, Queue
from api.errors import ConfigError
from api.resources import Resources, open_resources
from api.services import jobs
from api.services.workers import pulse_key
from api.settings import PROJECT_ROOT, Settings
from api.tasks import dispatch, gpu
from api.tasks.gpu import open_gpu
from api.worker import Equip, Equipment, work
from tests.job_rows import add, claim, read
from tests.owners import dead_owner
from tests.service import with_values
from tests.tasks.stage import Stage, complete
from tests.up_process import environment
from tests.waiting import until, until_async


@pytest.fixture
async def resources(settings: Settings, valkey_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings, valkey_url) as opened:
        yield opened


def equipped(equipment: Equipment) -> Equip:
    @asynccontextmanager
    async def equip(_: Resources) -> AsyncIterator[Equipment]:
        yield equipment

    return equip


@asynccontextmanager
async def working(
    settings: Settings, valkey_url: str, equipment: Equipment, signals: int = 1
) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker in this process, ended by so many signals."""
    with_redis = with_values(settings, redis_url=valkey_url)
    task = asyncio.create_task(work(with_redis, Queue.GPU, equipped(equipment)))
    yield task
    for _ in range(signals):
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)  # two at once are one to the kernel
    await asyncio.wait({task}, timeout=20)
    assert task.done()


async def pulse_of(resources: Resources) -> dict[str, object] | None:
    said = await resources.redis.get(pulse_key(Queue.GPU))
    return None if said is None else json.loads(said)


async def test_the_worker_goes_on_while_a_slow_disk_keeps_it_from_saying_how_it_is(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slowly() -> dict[str, object]:
        asked.set()
        return {"waited": answered.wait(5)}

    async with working(settings, valkey_url, Equipment(state=slowly)):
        await until(asked.is_set)
        answered.set()
        await until_async(lambda: pulse_of(resources))
        said = await pulse_of(resources)
        assert said is not None
        assert said["waited"] is True


async def test_it_says_who_and_how_it_is_until_it_ends(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    async with working(settings, valkey_url, Equipment(state=lambda: {"bases": ["flux-tiny"]})):
        await until_async(lambda: pulse_of(resources))
        said = await pulse_of(resources)
        assert said is not None
        assert (said["pid"], said["bases"]) == (os.getpid(), ["flux-tiny"])
        assert said["gpu"] == {"mode": "idle", "jobs": []}

    assert await pulse_of(resources) is None


async def test_a_signal_hands_its_jobs_back_that_do_not_finish_in_time(
    settings: Settings, valkey_url: str, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "FINISH_SECONDS", 0.1)
    stage = Stage()
    job_id = await add(resources.sessions)
    async with working(settings, valkey_url, Equipment({Kind.IMAGE: stage.run})):
        await stage.entered(job_id)

    job = await read(resources.sessions, job_id)
    assert (job.status, job.attempt) == ("pending", 1)


async def test_after_a_signal_a_picture_may_finish_and_nothing_new_begins(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    stage = Stage()
    job_id = await add(resources.sessions)
    async with working(settings, valkey_url, Equipment({Kind.IMAGE: stage.run})):
        await stage.entered(job_id)
        os.kill(os.getpid(), signal.SIGTERM)
        late = await add(resources.sessions)
        await resources.queue.ring(Queue.GPU)
        await stage.cue(job_id, complete)
        await until_async(lambda: has_ended(resources, job_id))

    assert (await read(resources.sessions, job_id)).status == "completed"
    assert (await read(resources.sessions, late)).status == "pending"
    assert stage.started == [(job_id, 1)]


async def has_ended(resources: Resources, job_id: UUID) -> bool:
    return (await read(resources.sessions, job_id)).finished_at is not None


async def test_a_second_signal_does_not_wait_for_pictures_and_the_first_not_for_a_training(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    for kind, signals in ((Kind.IMAGE, 2), (Kind.TRAINING, 1)):
        stage = Stage()
        job_id = await add(resources.sessions, kind)
        began = time.monotonic()
        async with working(settings, valkey_url, Equipment({kind: stage.run}), signals):
            await stage.entered(job_id)

        assert time.monotonic() - began < dispatch.FINISH_SECONDS - 1
        job = await read(resources.sessions, job_id)
        assert (job.status, job.attempt) == ("pending", 1)
        async with resources.sessions.begin() as session:
            await jobs.request_cancel(session, job_id)


async def test_when_a_duty_fails_the_worker_ends_and_hands_its_jobs_back(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    stage, broken = Stage(), asyncio.Event()

    async def break_down() -> None:
        await broken.wait()
        raise ZeroDivisionError

    job_id = await add(resources.sessions)
    equipment = Equipment({Kind.IMAGE: stage.run}, (break_down(),))
    task = asyncio.create_task(work(with_values(settings, redis_url=valkey_url), Queue.GPU, equipped(equipment)))
    await stage.entered(job_id)
    broken.set()

    with pytest.raises(ExceptionGroup) as caught:
        await task

    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    job = await read(resources.sessions, job_id)
    assert (job.status, job.attempt) == ("pending", 1)


async def test_a_second_gpu_worker_of_a_data_folder_is_refused(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "LEFTOVER_SECONDS", 0.1)
    async with open_gpu(resources):
        with pytest.raises(ConfigError) as caught:
            async with open_gpu(resources):
                pass
    assert caught.value.code == "worker_running"

    async with open_gpu(resources):
        pass


# ---- as processes ------------------------------------------------------------------------------------------------


async def test_the_cpu_worker_mends_at_its_start_and_ends_with_exit_code_0(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    job_id = await add(resources.sessions)
    assert await claim(resources.sessions, dead_owner()) == job_id
    command = (sys.executable, "-m", "api.worker_cpu")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT_ROOT, env=environment(settings, REDIS_URL=valkey_url)
    )

    async def mended() -> bool:
        return (await read(resources.sessions, job_id)).attempt == 2

    try:
        await until_async(mended, 30)
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("module", ["api.worker_cpu", "api.worker_gpu", "api.serve"])
def test_a_wrong_configuration_is_one_line_and_exit_code_78(settings: Settings, postgres_url: str, module: str) -> None:
    nobody = postgres_url.replace("postgres@", "me:hunter2@")
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=PROJECT_ROOT,
        env=environment(settings, DATABASE_URL=nobody),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, len(done.stderr.splitlines())) == (78, 1)
    assert done.stderr.startswith("masuka: The database does not let us in")
    assert "hunter2" not in done.stderr


async def test_whoever_read_its_log_may_go_away(settings: Settings, valkey_url: str, resources: Resources) -> None:
    """As when the supervisor is killed: the worker still ends in good order."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api.worker_cpu"),
        cwd=PROJECT_ROOT,
        env=environment(settings, REDIS_URL=valkey_url),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"worker_started" in await process.stderr.readline()
    process._transport.get_pipe_transport(2).close()  # type: ignore[attr-defined]

    process.terminate()

    async with asyncio.timeout(20):
        assert await process.wait() in (0, 120)  # 120: Python could not flush its own last words
    assert await resources.redis.get(pulse_key(Queue.CPU)) is None
