"""A picture of the real ComfyUI, and who is told of it by the real service."""

import asyncio

import pytest

from tests.end_to_end.service import PROMPT, SIZE, Service
from tests.receiver import receiving
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]


async def test_the_end_of_a_picture_is_told_and_a_dead_receiver_costs_it_nothing(service: Service) -> None:
    async with receiving() as dead:
        pass
    async with receiving() as receiver:
        for url in (dead.url(), receiver.url()):
            body = {**SIZE, "prompt": PROMPT, "seed": 5, "webhook_url": url}
            asked = await asyncio.to_thread(service.api.post, "/api/generate/image", body)
            last = (await asyncio.to_thread(service.follow, asked["asset_id"]))[-1]
            assert last["status"] == "completed", last
        await until(lambda: receiver.got, 60)

    (got,) = receiver.got
    said = got.verified()
    assert said["type"] == "image.completed"
    assert (said["data"]["asset_id"], said["data"]["job_id"]) == (asked["asset_id"], asked["task_id"])
    rows = await asyncio.to_thread(service.api.get, "/api/webhooks/deliveries/")
    told, untold = rows["items"]
    assert (told["id"], told["status"]) == (got.headers["webhook-id"], "delivered")
    assert (untold["status"], untold["last"]["error"]) == ("pending", "The receiver takes no connection.")
