"""`/samples`, `/metrics`, `/log` and what a running training is asked for, as a client sees them."""

import io
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from api.domain.curve import Course, Point
from api.domain.progress import Snapshot
from api.domain.samples import SampleName
from api.services import jobs, metrics, samples, training_logs, trainings, wishes
from api.services.generation import file_key
from api.services.jobs import Lease
from api.services.training_logs import LogStream
from tests.service import Service, assert_problem, png

PROMPTS = ["a ball", "a cube"]


async def begun(service: Service, *, version: str = "3.1.6", prompts: Sequence[str] = PROMPTS) -> tuple[str, Lease]:
    """The path of a session that a worker trains, and the worker's lease."""
    training = await service.training(base_model="flux-tiny", sample_prompts=list(prompts), steps=100)
    lease = await service.claim()
    async with service.resources.sessions.begin() as session:
        await wishes.tell_version(session, lease, UUID(training["id"]), version)
    return f"/api/training/{training['id']}", lease


def id_of(url: str) -> UUID:
    return UUID(url.rpartition("/")[2])


async def add_sample(service: Service, url: str, lease: Lease, step: int, position: int, folder: Path) -> None:
    picture = folder / "sample.png"
    Image.new("RGB", (64, 64), (step, position, 0)).save(picture)
    name = SampleName(step, position, 64, 64)
    async with service.resources.sessions.begin() as session:
        asset = samples.new_asset(await trainings.get(session, id_of(url)), name, PROMPTS)
        stored = await service.resources.storage.put_file(file_key(asset.id, "test"), picture)
        await samples.record(session, lease, id_of(url), name, asset, stored)


async def add_course(service: Service, url: str, points: Sequence[Point], checkpoints: Sequence[int] = ()) -> None:
    async with service.resources.sessions.begin() as session:
        await metrics.add(session, id_of(url), Course(points, checkpoints))


# ---- samples -------------------------------------------------------------------------------------------------------


async def test_samples_are_shown_by_step_and_prompt_and_in_one_picture(any_service: Service, tmp_path: Path) -> None:
    url, lease = await begun(any_service)
    assert_problem(await any_service.client.get(f"{url}/samples.png"), 409, "no_samples")
    for step, position in ((10, 0), (10, 1), (20, 0), (20, 1)):
        await add_sample(any_service, url, lease, step, position, tmp_path)

    first = (await any_service.client.get(f"{url}/samples", params={"limit": 3})).json()
    rest = (await any_service.client.get(f"{url}/samples", params={"cursor": first["next_cursor"]})).json()
    found = [(each["step"], each["position"], each["prompt"]) for each in first["items"] + rest["items"]]
    assert found == [(20, 1, "a cube"), (20, 0, "a ball"), (10, 1, "a cube"), (10, 0, "a ball")]
    assert (first["prompts"], first["seed"], rest["next_cursor"]) == (PROMPTS, 42, None)
    balls = (await any_service.client.get(f"{url}/samples", params={"position": 0, "step": 10})).json()["items"]
    assert [(each["step"], each["position"]) for each in balls] == [(10, 0)]

    sheet = await any_service.client.get(f"{url}/samples.png", params={"side": 32})
    with Image.open(io.BytesIO(sheet.content)) as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=10_000)
    assert colours is not None
    assert {(10, 0, 0), (10, 1, 0), (20, 0, 0), (20, 1, 0)} <= {colour for _, colour in colours}
    again = await any_service.client.get(
        f"{url}/samples.png", params={"side": 32}, headers={"If-None-Match": sheet.headers["etag"]}
    )
    assert again.status_code == 304


async def test_a_sample_is_an_asset_like_any_other(service: Service, tmp_path: Path) -> None:
    url, lease = await begun(service)
    await add_sample(service, url, lease, 10, 1, tmp_path)
    (sample,) = (await service.client.get(f"{url}/samples")).json()["items"]
    (asset,) = (await service.client.get("/api/assets/", params={"tag": "sample"})).json()["items"]
    assert asset["id"] == sample["asset_id"]
    assert (asset["prompt"], asset["seed"], asset["status"]) == ("a cube", 42, "completed")
    assert asset["generation_config"]["sample"] == {
        "training_session_id": str(id_of(url)),
        "step": 10,
        "position": 1,
    }
    assert (await service.client.get(sample["file_url"], params={"metadata": "a1111"})).status_code == 200
    assert (await service.client.get(sample["thumbnail_url"])).status_code == 200
    gone = assert_problem(await service.client.get(f"/api/assets/{asset['id']}/recreate"), 409, "asset_not_recreatable")
    assert "trainer" in gone["detail"]
    assert (await service.client.delete(f"/api/assets/{asset['id']}")).status_code == 204
    assert (await service.client.get(f"{url}/samples")).json()["items"] == []


async def test_default_prompts_come_from_the_trigger_word_or_the_captions(service: Service) -> None:
    named = await service.dataset("named", trigger_word="ohwx")
    prompts = (await service.training(dataset_id=named["id"]))["config"]["sample_prompts"]
    assert len(prompts) == 2
    assert all("ohwx" in prompt for prompt in prompts)

    told = await service.upload({"a.png": png(1), "a.txt": b"a red ball"}, name="told")
    config = (await service.training(dataset_id=told.json()["id"], base_model="flux-tiny"))["config"]
    assert (config["sample_prompts"], config["sample_steps"], config["sample_seed"]) == (["a red ball"], 12, 42)

    off = await service.training(dataset_id=named["id"], sample_prompts=[])
    assert off["config"]["sample_prompts"] == []


@pytest.mark.parametrize("wrong", [["x"] * 9, [""], ["two\nlines"], ["x" * 501], "a ball", [7], ["\ud800"]])
async def test_wrong_prompts_are_refused_by_name(service: Service, wrong: object) -> None:
    body = {"dataset_id": (await service.dataset())["id"], "sample_prompts": wrong}
    if wrong == ["\ud800"]:
        sent = await service.client.post(
            "/api/training/flux",
            content=f'{{"dataset_id": "{body["dataset_id"]}", "sample_prompts": ["\\ud800"]}}',
            headers={"Content-Type": "application/json"},
        )
    else:
        sent = await service.client.post("/api/training/flux", json=body)
    assert assert_problem(sent, 422, "validation_failed")["errors"][0]["loc"][1] == "sample_prompts"


# ---- metrics -------------------------------------------------------------------------------------------------------


async def test_the_course_of_a_training_is_shown_whole_or_thinned(any_service: Service) -> None:
    url, lease = await begun(any_service)
    empty = (await any_service.client.get(f"{url}/metrics")).json()
    assert (empty["points"], empty["loss"], empty["step_seconds"]) == ([], None, None)
    points = [Point(step, 1.7e9 + step, 5.0 if step == 37 else 1 / step, 1e-4, 0.5) for step in range(1, 81)]
    await add_course(any_service, url, points, [40, 80])
    snapshot = Snapshot("training", step=80, total_steps=100, eta_seconds=12.0, step_seconds=0.6)
    async with any_service.resources.sessions.begin() as session:
        await jobs.save_progress(session, lease, snapshot)

    whole = (await any_service.client.get(f"{url}/metrics")).json()
    assert [point["step"] for point in whole["points"]] == list(range(1, 81))
    assert (whole["step"], whole["total_steps"], whole["eta_seconds"], whole["step_seconds"]) == (80, 100, 12.0, 0.6)
    assert (whole["loss"], whole["learning_rate"], whole["checkpoints"]) == (1 / 80, 1e-4, [40, 80])
    assert whole["downsampled"] is False

    thin = (await any_service.client.get(f"{url}/metrics", params={"points": 10})).json()
    steps = [point["step"] for point in thin["points"]]
    assert len(steps) <= 10
    assert {1, 37, 80} <= set(steps)
    assert (thin["downsampled"], thin["steps_kept"]) == (True, 80)

    await any_service.complete(lease)
    ended = (await any_service.client.get(f"{url}/metrics")).json()
    assert (ended["status"], ended["eta_seconds"], ended["step_seconds"]) == ("completed", None, 0.5)
    assert ended["points"] == whole["points"]


async def test_the_loss_curve_is_a_picture_with_its_training_checkpoints(service: Service) -> None:
    url, _ = await begun(service)
    assert (await service.client.get(f"{url}/metrics.png")).status_code == 200
    await add_course(service, url, [Point(step, 1.0, 2 - step / 100, 0.1, 1.0) for step in range(1, 101)], [50])
    answer = await service.client.get(f"{url}/metrics.png", params={"width": 400, "height": 300})
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.size, picture.format) == ((400, 300), "PNG")
        drawn = picture.convert("RGB")
    middle = 64 + (400 - 64 - 24) // 2
    assert sum(_is_orange(drawn.getpixel((middle, y))) for y in range(45, 255)) > 100  # the training checkpoint
    assert any(_is_blue(drawn.getpixel((64 + 30, y))) for y in range(40, 120))  # it begins high
    assert any(_is_blue(drawn.getpixel((400 - 40, y))) for y in range(180, 260))  # and falls


def _is_blue(pixel: object) -> bool:
    assert isinstance(pixel, tuple)
    red, _, blue = pixel
    return bool(blue - red > 60)


def _is_orange(pixel: object) -> bool:
    assert isinstance(pixel, tuple)
    red, _, blue = pixel
    return bool(red - blue > 60)


# ---- log -----------------------------------------------------------------------------------------------------------


async def test_the_log_in_storage_is_read_by_ranges(any_service: Service, tmp_path: Path) -> None:
    url, lease = await begun(any_service)
    text = "".join(f"line {number}: größer\n" for number in range(100)).encode()
    (tmp_path / "log").write_bytes(text)
    for run in (1.0, 2.0):  # the second takes the place of the first
        key = training_logs.new_key(id_of(url), LogStream.STDOUT)
        stored = await any_service.resources.storage.put_file(key, tmp_path / "log")
        async with any_service.resources.sessions.begin() as session:
            await training_logs.record(session, lease, id_of(url), LogStream.STDOUT, run, stored)
    await any_service.complete(lease)

    read, offset = b"", 0
    while offset < len(text):
        part = await any_service.client.get(f"{url}/log", params={"offset": offset, "limit": 333})
        assert int(part.headers["Masuka-Log-Offset"]) == offset
        part.content.decode()
        read, offset = read + part.content, int(part.headers["Masuka-Log-Next"])
    assert read == text
    tail = await any_service.client.get(f"{url}/log", params={"limit": 40})
    assert tail.text == "line 98: größer\nline 99: größer\n"
    assert tail.headers["content-type"] == "text/plain; charset=utf-8"
    assert (tail.headers["Masuka-Log-Size"], tail.headers["Masuka-Log-Source"]) == (str(len(text)), "stored")
    beyond = await any_service.client.get(f"{url}/log", params={"offset": 10**9})
    assert (beyond.status_code, beyond.content) == (200, b"")
    assert_problem(await any_service.client.get(f"{url}/log", params={"stream": "stderr"}), 404, "log_gone")


async def test_a_log_that_there_cannot_be_yet_is_said_so(service: Service) -> None:
    training = await service.training(base_model="flux-tiny")
    assert_problem(await service.client.get(f"/api/training/{training['id']}/log"), 409, "log_not_yet")


# ---- what a running training is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["checkpoint", "sample"])
async def test_what_316_cannot_do_is_said_with_the_version_that_can(service: Service, act: str) -> None:
    url, _ = await begun(service)
    body = assert_problem(await service.client.post(f"{url}/{act}"), 409, "not_supported_by_trainer")
    assert body["value"] == "3.1.6"
    assert "4.8" in body["hint"]


@pytest.mark.parametrize("act", ["checkpoint", "sample"])
async def test_48_is_asked_once_until_it_is_done(any_service: Service, act: str) -> None:
    url, lease = await begun(any_service, version="4.8.0")
    first = await any_service.client.post(f"{url}/{act}")
    again = await any_service.client.post(f"{url}/{act}")
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    assert again.json() == first.json()
    async with any_service.resources.sessions() as session:
        ((wish, since),) = (await wishes.standing(session, id_of(url))).items()
    assert wish == act
    async with any_service.resources.sessions.begin() as session:
        await wishes.fulfil(session, lease, id_of(url), wish, since)
    assert (await any_service.client.post(f"{url}/{act}")).json()["asked_at"] > first.json()["asked_at"]


async def test_only_a_training_that_runs_can_be_asked(service: Service) -> None:
    waiting = await service.training(base_model="flux-tiny")
    url = f"/api/training/{waiting['id']}/checkpoint"
    assert_problem(await service.client.post(url), 409, "session_not_running")
    lease = await service.claim()
    assert_problem(await service.client.post(url), 409, "training_not_started")
    async with service.resources.sessions.begin() as session:
        await wishes.tell_version(session, lease, UUID(waiting["id"]), "4.8.0")
    assert (await service.client.post(url)).status_code == 202
    sample = url.replace("checkpoint", "sample")
    assert_problem(await service.client.post(sample), 409, "no_sample_prompts")
    await service.complete(lease)
    assert assert_problem(await service.client.post(url), 409, "session_not_running")["value"] == "completed"


async def test_a_wish_with_a_key_is_answered_the_same_again(service: Service) -> None:
    url, lease = await begun(service, version="4.8.0")
    key = {"Idempotency-Key": "once"}
    first = await service.client.post(f"{url}/checkpoint", headers=key)
    await service.complete(lease)
    again = await service.client.post(f"{url}/checkpoint", headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
