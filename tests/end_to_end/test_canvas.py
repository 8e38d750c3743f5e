"""ComfyUI's own canvas in a real Chromium, through the real service: what is drawn there is in the history."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from api.client import ApiProblem
from tests.browser import Page, browsing
from tests.end_to_end.service import SIZE, Service, running_service
from tests.end_to_end.test_workflows import lora, run, square, upload
from tests.waiting import until_async

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

TOKEN = "a-long-secret-of-the-owner"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOAD_SECONDS = 150.0
SMALL = {"width": 64, "height": 64, "steps": 2}
NODES = "window.graph.nodes.map((node) => [node.type, node.title])"
VALUE = "window.graph.nodes.find((node) => node.type === '{}').widgets.find((widget) => widget.name === '{}')"


@pytest.fixture(scope="module")
def canvas_service(tmp_path_factory: pytest.TempPathFactory, engines_dir: Path) -> Any:
    env = {"MASUKA_API_TOKEN": TOKEN}
    with running_service(tmp_path_factory.mktemp("canvas") / "data", engines_dir, env, TOKEN) as found:
        yield found


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with browsing(tmp_path / "profile") as opened:
        yield opened


def assets(service: Service) -> list[dict[str, Any]]:
    return list(service.api.get("/api/assets/")["items"])


def graph_of(service: Service, what: str) -> dict[str, Any]:
    """What our script opens, once ComfyUI is there."""
    found: dict[str, Any] = {}

    def there() -> bool:
        try:
            found.update(service.api.get(f"/comfyui/masuka/{what}"))
            service.api.get("/comfyui/api/features")
        except ApiProblem:
            return False
        return True

    eventually(there, LOAD_SECONDS)
    return dict(found["prompt"])


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    async def true() -> bool:
        return condition()

    asyncio.run(until_async(true, seconds))


def node_of(graph: dict[str, Any], class_type: str) -> dict[str, Any]:
    return next(dict(node) for node in graph.values() if node["class_type"] == class_type)


def queue(service: Service, graph: dict[str, Any], **inputs: Any) -> str:
    """As the canvas does it; sets every input of these names. The prompt's id."""
    for node in graph.values():
        node["inputs"] |= {name: value for name, value in inputs.items() if name in node["inputs"]}
    return str(service.api.post("/comfyui/api/prompt", {"prompt": graph, "client_id": "tests"})["prompt_id"])


def tell(service: Service, route: str, body: dict[str, Any] | None = None) -> None:
    """As the canvas does it, which gets no words for an answer."""
    url = f"http://127.0.0.1:{service.port}/comfyui/api/{route}"
    assert httpx.post(url, json=body, headers=BEARER, trust_env=False).status_code == 200


def waits_in_comfyui(service: Service, job_id: str) -> bool:
    """In the queue of ComfyUI itself; the canvas is shown only its own part of it."""
    (words,) = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if {"--base-directory", str(service.data_dir / "comfyui")} <= set(process.info["cmdline"] or [])
    ]
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}/queue"
    pending = httpx.get(url, trust_env=False, timeout=20).json()["queue_pending"]
    return any(prompt_id.startswith(job_id) for _, prompt_id, *_ in pending)


def by_seed(service: Service, seed: int) -> list[dict[str, Any]]:
    return [asset for asset in assets(service) if asset["generation_config"].get("seed") == seed]


def test_a_lora_of_the_library_is_in_the_loaders_and_is_drawn_with(canvas_service: Service) -> None:
    model = lora(canvas_service, "My Dog", 4)
    graph = graph_of(canvas_service, "workflows/flux_text_to_image")
    nodes = canvas_service.api.get("/comfyui/api/object_info")
    (name,) = [
        file
        for file in nodes["LoraLoaderModelOnly"]["input"]["required"]["lora_name"][0]
        if file.lower().startswith("my-dog-")
    ]
    loader = {"lora_name": name, "strength_model": 0.5, "model": ["1", 0]}
    graph["99"] = {"class_type": "LoraLoaderModelOnly", "inputs": loader}
    graph["7"]["inputs"]["model"] = ["99", 0]
    queue(canvas_service, graph, **SMALL, seed=21)
    eventually(lambda: bool(by_seed(canvas_service, 21)))
    (asset,) = by_seed(canvas_service, 21)
    assert asset["model_id"] == model["id"]
    assert asset["generation_config"]["loras"][0]["scale"] == 0.5


def test_a_picture_that_starts_from_another_opens_with_it(canvas_service: Service, tmp_path: Path) -> None:
    start = upload(canvas_service, square())
    asset, _ = run(canvas_service, "flux_image_to_image", tmp_path, parameters={"image": start, "denoise": 0.5})
    graph = graph_of(canvas_service, f"assets/{asset['id']}")
    assert not node_of(graph, "LoadImage")["inputs"]["image"].startswith("masuka-")
    queue(canvas_service, graph, seed=22)
    eventually(lambda: bool(by_seed(canvas_service, 22)))


def test_a_job_goes_before_what_waits_in_the_canvas_and_outlives_its_interrupt(
    canvas_service: Service, tmp_path: Path
) -> None:
    graph = graph_of(canvas_service, "workflows/flux_text_to_image")
    slow = {**SMALL, "steps": 2000}
    running, waiting = (queue(canvas_service, graph, **slow, seed=seed) for seed in (31, 32))
    api = canvas_service.api
    started = api.post("/api/generate/image", {**SIZE, "prompt": "a job", "seed": 5})
    assert waiting in [item[1] for item in api.get("/comfyui/api/queue")["queue_pending"]]
    eventually(lambda: waits_in_comfyui(canvas_service, started["task_id"]))  # before it, or its turn is not tried
    tell(canvas_service, "interrupt")
    last = canvas_service.follow(started["asset_id"])[-1]
    assert last["status"] == "completed", last
    assert last["attempt"] == 1
    history = api.get("/comfyui/api/history")
    assert running in history, "it was interrupted"
    assert waiting not in history, "it waited until the job was drawn"
    tell(canvas_service, "queue", {"clear": True})
    tell(canvas_service, "interrupt")
    eventually(lambda: api.get("/comfyui/api/queue") == {"queue_running": [], "queue_pending": []})


async def opened(page: Page, service: Service, query: str) -> list[Any]:
    """The nodes of what the canvas shows once it has opened this."""
    await page.open(f"http://127.0.0.1:{service.port}/comfyui/?token={TOKEN}&{query}")
    await page.until("document.documentElement?.dataset.masukaOpened", LOAD_SECONDS)
    assert await page.ask("location.search") == ""
    return list(await page.ask(NODES))


async def draw(page: Page, service: Service) -> dict[str, Any]:
    """Queue what the canvas shows, as its button does; the picture's asset."""
    before = {asset["id"] for asset in assets(service)}
    new: list[dict[str, Any]] = []

    async def there() -> bool:
        new[:] = [asset for asset in await asyncio.to_thread(assets, service) if asset["id"] not in before]
        return bool(new)

    await page.ask("app.queuePrompt(0, 1)")
    await until_async(there, 60)
    return new[0]


async def test_the_canvas_loads_a_template_queues_it_and_the_picture_is_in_the_history(
    canvas_service: Service, page: Page, tmp_path: Path
) -> None:
    nodes = await opened(page, canvas_service, "workflow=flux_text_to_image")
    assert ["SaveImage", "Save [[filename_prefix]]"] in nodes
    assert await page.ask("document.querySelector('canvas').width") > 0
    for node, widget, value in (
        ("KSampler", "steps", 2),
        ("KSampler", "seed", 11),
        ("EmptySD3LatentImage", "width", 64),
        ("EmptySD3LatentImage", "height", 64),
        ("CLIPTextEncode", "text", "'drawn by hand'"),
    ):
        await page.ask(f"({VALUE.format(node, widget)}).value = {value}")
    asset = await draw(page, canvas_service)
    assert asset["status"] == "completed"
    assert asset["generation_config"]["source"] == "canvas"
    assert asset["generation_config"]["seed"] == 11
    assert (asset["generation_config"]["width"], asset["generation_config"]["height"]) == (64, 64)
    assert asset["canvas_url"] == f"/comfyui/?asset={asset['id']}"
    assert page.errors == []
    # What was drawn by hand opens again as it lay there, titles and all.
    again = await opened(page, canvas_service, f"asset={asset['id']}")
    assert sorted(again) == sorted(nodes)
    assert (await page.screenshot(tmp_path / "canvas.png")).stat().st_size > 10_000


async def test_a_picture_of_a_job_opens_with_its_graph_and_is_drawn_again(
    canvas_service: Service, page: Page, tmp_path: Path
) -> None:
    asset, _ = await asyncio.to_thread(run, canvas_service, "flux_text_to_image", tmp_path)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{canvas_service.port}", trust_env=False) as client:
        link = await client.get(f"/api/assets/{asset['id']}/canvas", headers=BEARER, follow_redirects=False)
    assert (link.status_code, link.headers["location"]) == (307, asset["canvas_url"])
    nodes = await opened(page, canvas_service, f"asset={asset['id']}")
    assert "[[seed" in str(nodes), "titles keep their markers"
    assert await page.ask(f"({VALUE.format('KSampler', 'seed')}).value") == 5
    await page.ask(f"({VALUE.format('KSampler', 'seed')}).value = 12")
    again = await draw(page, canvas_service)
    assert (again["prompt"], again["generation_config"]["seed"]) == (asset["prompt"], 12)


async def test_a_template_that_is_opened_changed_and_exported_in_the_canvas_is_a_template(
    canvas_service: Service, page: Page
) -> None:
    for name in ("flux_text_to_image", "flux_image_to_image", "flux_inpaint", "flux_upscale"):
        await opened(page, canvas_service, f"workflow={name}")
        await page.ask(f"({VALUE.format('KSampler', 'steps')}).value = 9")
        exported = await page.ask("window.app.graphToPrompt().then((made) => made.output)")
        await asyncio.to_thread(canvas_service.api.post, "/api/workflows/", {"name": f"my_{name}", "graph": exported})
        mine, origin = (canvas_service.api.get(f"/api/workflows/{one}") for one in (f"my_{name}", name))
        found, expected = mine["parameters"]["properties"], origin["parameters"]["properties"]
        assert found["num_inference_steps"].pop("default") == 9
        expected["num_inference_steps"].pop("default")
        assert found == expected
        assert mine["takes_loras"] == origin["takes_loras"]
