"""LoRAs from a part of the web on loopback, by the jobs that bring them: whole, checked, once, never from inside."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.domain.job import Kind, Queue, Status
from api.fetch.part import Part
from api.models import Job, Model, ModelImport
from api.models.base import utcnow
from api.resources import Resources
from api.services import imports, jobs, loras
from api.services.imports import ImportRequest
from api.settings import PROJECT_ROOT, Settings
from api.tasks.dispatch import Dispatcher
from api.tasks.import_model import import_folder, import_model, imports_root
from api.tasks.tidy_library import is_over, tidy_library
from tests.https_server import FILES, HUB, PUBLIC, HttpsServer, Reach, https_server, reaching
from tests.job_rows import read
from tests.service import tiny_lora, tiny_tensors
from tests.tasks.stage import on_duty, published
from tests.trainer.lora_files import file_bytes, pair
from tests.up_process import environment
from tests.waiting import until, until_async

URL, NAME = f"https://{FILES}/ohwx.safetensors", f"{FILES}/ohwx.safetensors"
FROM_HUB = {"repo": "owner/loras", "file": "ohwx.safetensors"}
HUB_NAME = f"{HUB}/owner/loras/resolve/main/ohwx.safetensors"
LARGE = file_bytes(tiny_tensors(), {"note": "x" * 3_000_000})
FOR_FLUX_DEV = file_bytes(pair("transformer.proj_out", out=64, inner=3072))
PICKLE = b"\x80\x04\x95" + b"cos\nsystem\n(S'true'\ntR." * 1000


@pytest.fixture
def server() -> Iterator[HttpsServer]:
    with https_server() as running:
        yield running


@pytest.fixture
async def reach(server: HttpsServer) -> AsyncIterator[Reach]:
    async with reaching(server.port, server.client_context()) as opened:
        yield opened


@pytest.fixture
async def worker(resources: Resources, reach: Reach) -> AsyncIterator[Dispatcher]:
    """On duty."""
    dispatcher = Dispatcher(resources, Queue.CPU, {Kind.IMPORT: partial(import_model, reach.web)})
    async with on_duty(dispatcher):
        yield dispatcher


async def asked(resources: Resources, **body: Any) -> ModelImport:
    async with resources.sessions.begin() as session:
        row = await imports.submit(session, resources.settings, ImportRequest(**body))
    await resources.queue.ring(Queue.CPU)
    return row


async def ended(resources: Resources, row: ModelImport, seconds: float = 20) -> Job:
    async def over() -> bool:
        return (await read(resources.sessions, imports.task_of(row))).finished_at is not None

    await until_async(over, seconds)
    return await read(resources.sessions, imports.task_of(row))


async def outcome(resources: Resources, **body: Any) -> tuple[Job, ModelImport]:
    row = await asked(resources, **body)
    job = await ended(resources, row)
    async with resources.sessions() as session:
        return job, await imports.get(session, row.id)


async def model_of(resources: Resources, row: ModelImport) -> Model:
    assert row.model_id is not None
    async with resources.sessions() as session:
        return await loras.get(session, row.model_id)


def left_over(settings: Settings) -> list[Path]:
    """Of downloads and of what was stored in vain."""
    folders = (imports_root(settings), settings.masuka_data_dir / "storage")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("worker")
async def test_a_lora_of_the_web_becomes_a_model(resources: Resources, server: HttpsServer) -> None:
    server.files[NAME] = data = file_bytes(tiny_tensors(), {"modelspec.trigger_phrase": "sks", "note": "x" * 3_000_000})
    server.cut_after.append(2_000_000)
    job, row = await outcome(resources, url=URL, sha256=hashlib.sha256(data).hexdigest())
    assert (job.status, job.error_code, row.status, row.duplicate) == ("completed", None, "completed", False)
    model = await model_of(resources, row)
    assert (model.name, model.base_model, model.trigger_word) == ("ohwx", "flux-tiny", "sks")
    stored = resources.storage.local_path(model.storage_path)
    assert stored is not None
    assert left_over(resources.settings) == [stored]
    assert stored.read_bytes() == data
    assert [get.range for get in server.gets] == ["", "bytes=2000000-"]
    told = await published(resources, imports.task_of(row))
    assert {"downloading", "checking", "completed"} <= {snapshot["stage"] for snapshot in told}
    assert all(snapshot["status"] in ("importing", "completed") for snapshot in told)


@pytest.mark.usefixtures("worker")
async def test_a_lora_of_the_hub_is_checked_by_the_hubs_word(resources: Resources, server: HttpsServer) -> None:
    server.redirects[HUB_NAME] = URL
    server.files[NAME] = tiny_lora()
    server.headers = {"X-Linked-ETag": f'"{hashlib.sha256(tiny_lora()).hexdigest()}"'}
    _, row = await outcome(resources, **FROM_HUB, name="mine")
    assert (await model_of(resources, row)).name == "mine"
    server.files[NAME] = tiny_lora(8)
    job, row = await outcome(resources, **FROM_HUB)
    assert (job.status, job.error_code, row.model_id) == ("failed", "hash_mismatch", None)
    assert len(left_over(resources.settings)) == 1


@pytest.mark.usefixtures("worker")
async def test_what_is_here_already_is_not_kept_twice(resources: Resources, server: HttpsServer) -> None:
    server.files[NAME] = tiny_lora()
    _, first = await outcome(resources, url=URL)
    _, again = await outcome(resources, url=URL, name="other")
    assert (again.model_id, again.duplicate) == (first.model_id, True)
    server.gets.clear()
    _, known = await outcome(resources, url=URL, sha256=hashlib.sha256(tiny_lora()).hexdigest())
    assert (known.model_id, known.duplicate, server.gets) == (first.model_id, True, [])
    assert len(left_over(resources.settings)) == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("data", "body", "code"),
    [
        (PICKLE, {}, "lora_invalid"),
        (LARGE[:-1], {}, "lora_invalid"),
        (b"<html>please log in</html>", {}, "lora_invalid"),
        (file_bytes(pair("my.own.layer")), {}, "lora_family_unknown"),
        (FOR_FLUX_DEV, {"base_model": "flux-tiny"}, "lora_keys_mismatch"),
        (tiny_lora(), {"sha256": "ab" * 32}, "hash_mismatch"),
        (None, {}, "download_refused"),
    ],
)  # fmt: skip
async def test_what_is_no_lora_for_us_is_refused_and_leaves_nothing(
    resources: Resources, server: HttpsServer, data: bytes | None, body: dict[str, Any], code: str
) -> None:
    server.files |= {} if data is None else {NAME: data}
    job, row = await outcome(resources, url=URL, **body)
    assert (job.status, job.error_code, job.attempt, row.model_id) == ("failed", code, 1, None)
    assert row.error_message == job.error_message
    assert left_over(resources.settings) == []


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("way", ["dns", "redirect"])
async def test_no_import_reaches_the_owners_network(
    resources: Resources, server: HttpsServer, reach: Reach, way: str
) -> None:
    if way == "dns":
        reach.names.known[FILES] = [["10.0.0.7"]]
    else:
        server.redirects[NAME] = "https://inside.example/a"
        reach.names.known["inside.example"] = [["169.254.169.254"]]
    job, _ = await outcome(resources, url=URL)
    assert (job.status, job.error_code) == ("failed", "address_not_allowed")
    assert set(reach.dialled) <= set(PUBLIC[FILES])


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_import_stops_and_its_download_goes(
    resources: Resources, server: HttpsServer, reach: Reach
) -> None:
    server.files[NAME], server.hold_after = LARGE, 2_000_000
    row = await asked(resources, url=URL)
    part = Part(import_folder(resources.settings, row.id))
    await until(lambda: part.size() >= 2**20)
    async with resources.sessions.begin() as session:
        await jobs.request_cancel(session, imports.task_of(row))
    await resources.queue.announce_cancel(imports.task_of(row))
    assert (await ended(resources, row)).status == Status.CANCELLED.value
    await tidy_library(resources)
    assert left_over(resources.settings) == []


@pytest.mark.parametrize(
    ("status", "days_ago", "over"),
    [("pending", 9, False), ("importing", 9, False), ("failed", 1, False), ("failed", 9, True), ("completed", 0, True)],
)
def test_a_download_that_failed_is_kept_for_a_retry(status: str, days_ago: int, over: bool) -> None:
    now = utcnow()
    assert is_over(status, now - timedelta(days=days_ago), now, timedelta(days=7)) is over


async def test_a_download_stays_as_long_as_its_import(resources: Resources) -> None:
    row = await asked(resources, url=URL)
    part = Part(import_folder(resources.settings, row.id))
    part.begin('"etag"')
    stranger = imports_root(resources.settings) / "notes"
    stranger.mkdir()
    await tidy_library(resources)
    assert part.path.exists()  # it waits for its worker
    async with resources.sessions.begin() as session:
        await session.delete(await session.get_one(ModelImport, row.id))
    await tidy_library(resources)
    assert list(imports_root(resources.settings).iterdir()) == [stranger]


# ---- a worker that is killed ---------------------------------------------------------------------------------------


@contextmanager
def worker_process(settings: Settings, redis_url: str, server: HttpsServer, authority: Path) -> Iterator[int]:
    """A cpu worker of its own process; its pid."""
    command = [sys.executable, "-m", "tests.tasks.import_worker", str(server.port), str(authority)]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment(settings, REDIS_URL=redis_url))
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(120)
async def test_an_import_survives_kill_9_and_goes_on_where_it_was(
    resources: Resources, server: HttpsServer, valkey_url: str, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.pem"
    server.authority.cert_pem.write_to_path(str(authority))
    server.files[NAME], server.hold_after = LARGE, 2_000_000
    row = await asked(resources, url=URL)
    part = Part(import_folder(resources.settings, row.id))
    with worker_process(resources.settings, valkey_url, server, authority) as pid:
        await until(lambda: part.size() >= 2**20, 60)
        os.kill(pid, signal.SIGKILL)
    have = part.size()
    server.go_on.set()
    with worker_process(resources.settings, valkey_url, server, authority):
        job = await ended(resources, row, 60)
    assert (job.status, job.attempt) == ("completed", 2)
    assert [get.range for get in server.gets] == ["", f"bytes={have}-"]
    async with resources.sessions() as session:
        model_id: UUID | None = (await imports.get(session, row.id)).model_id
        assert model_id is not None
        assert (await loras.get(session, model_id)).model_metadata["sha256"] == hashlib.sha256(LARGE).hexdigest()
