"""ComfyUI's own canvas in a real Chromium, through the real service: what is drawn there is in the history."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import Page, browsing
from tests.end_to_end.service import Service, running_service
from tests.end_to_end.test_workflows import run
from tests.waiting import until_async

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

TOKEN = "a-long-secret-of-the-owner"
LOAD_SECONDS = 150.0
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
        link = await client.get(
            f"/api/assets/{asset['id']}/canvas", headers={"Authorization": f"Bearer {TOKEN}"}, follow_redirects=False
        )
    assert (link.status_code, link.headers["location"]) == (307, asset["canvas_url"])
    nodes = await opened(page, canvas_service, f"asset={asset['id']}")
    assert "[[seed" in str(nodes), "titles keep their markers"
    assert await page.ask(f"({VALUE.format('KSampler', 'seed')}).value") == 5
    await page.ask(f"({VALUE.format('KSampler', 'seed')}).value = 12")
    again = await draw(page, canvas_service)
    assert (again["prompt"], again["generation_config"]["seed"]) == (asset["prompt"], 12)
