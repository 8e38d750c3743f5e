"""Delivers webhooks from the outbox; runs in the cpu worker, so that no receiver, however slow, holds up a job."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from api import __version__
from api.courier import Answer, Courier, UndeliveredError, open_courier
from api.db import DATABASE_ERRORS
from api.domain.addresses import may_reach
from api.domain.webhook import GONE, is_taken, signature
from api.models import WebhookDelivery
from api.models.base import utcnow
from api.resources import Resources
from api.services import outbox, webhooks

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
AT_ONCE = 8
AT_ONCE_EACH = 4
"""To one receiver, so that one that is slow leaves room for others."""
FORGET_SECONDS = 3600.0


async def deliver_forever(resources: Resources) -> None:
    async with open_courier() as courier, asyncio.TaskGroup() as group:
        await Deliverer(resources, courier, group).work()


async def forget_deliveries_forever(resources: Resources) -> None:
    while True:
        try:
            async with resources.sessions.begin() as session:
                await outbox.forget(session, resources.settings.masuka_webhook_days)
        except DATABASE_ERRORS as exc:
            log.warning("deliveries_not_forgotten", error=str(exc))
        await asyncio.sleep(FORGET_SECONDS)


class Deliverer:
    def __init__(self, resources: Resources, courier: Courier, group: asyncio.TaskGroup) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._courier = courier
        self._group = group
        self._under_way: Counter[str] = Counter()
        """How many attempts each receiver has now."""
        self._ended = asyncio.Event()

    async def work(self) -> None:
        """Deliver for ever what is due."""
        while True:
            self._ended.clear()
            try:
                while self._under_way.total() < AT_ONCE and await self._start_one():
                    pass
            except DATABASE_ERRORS as exc:
                log.warning("webhooks_not_claimed", error=str(exc))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):  # wait_for would lose a cancellation (bpo-42130, before 3.12)
                    await self._ended.wait()

    async def _start_one(self) -> bool:
        busy = [receiver for receiver, count in self._under_way.items() if count >= AT_ONCE_EACH]
        async with self._resources.sessions.begin() as session:
            delivery = await outbox.claim(session, busy)
        if delivery is None:
            return False
        self._under_way[delivery.receiver] += 1
        self._group.create_task(self._deliver(delivery), name=f"webhook-{delivery.id}")
        return True

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        """One attempt. One that dies half-way is made up for when its lease has run out."""
        began = time.monotonic()
        entry: dict[str, Any] = {"at": utcnow().isoformat(), "status_code": None, "error": None, "answer": None}
        taken, final = False, False
        try:
            answer = await self._send(delivery)
            entry |= {"status_code": answer.status_code, "answer": answer.text}
            taken, final = is_taken(answer.status_code), answer.status_code == GONE
        except UndeliveredError as exc:
            entry["error"], final = str(exc), exc.code == "webhook_refused"
        except Exception:  # the last line of defence: a bug here must not end the worker
            log.exception("webhook_crashed", delivery_id=str(delivery.id))
            entry["error"] = "MASUKA itself failed while sending it; the worker's log has the details."
        finally:
            self._under_way -= Counter([delivery.receiver])  # keeps only what is above 0
            self._ended.set()
        entry["seconds"] = round(time.monotonic() - began, 3)
        await self._settle(delivery, entry, taken=taken, final=final)

    async def _send(self, delivery: WebhookDelivery) -> Answer:
        keys = self._settings.webhook_keys
        if not keys:
            raise UndeliveredError("There is no secret to sign it with.", hint="Set MASUKA_WEBHOOK_SECRET.")
        body, now = delivery.body.encode(), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"MASUKA/{__version__}",
            "webhook-id": str(delivery.id),
            "webhook-timestamp": str(now),
            "webhook-signature": signature(keys, str(delivery.id), now, body),
        }
        return await self._courier.post(delivery.url, headers, body, may_reach=self._allowed(delivery))

    def _allowed(self, delivery: WebhookDelivery) -> "partial[bool]":
        if webhooks.is_trusted(self._settings, delivery.url):
            return partial(bool)
        return partial(may_reach, private=self._settings.masuka_webhook_private)

    async def _settle(self, delivery: WebhookDelivery, entry: dict[str, Any], *, taken: bool, final: bool) -> None:
        about = {"delivery_id": str(delivery.id), "receiver": delivery.receiver, "attempt": delivery.attempt}
        try:
            async with self._resources.sessions.begin() as session:
                settled = await outbox.settle(session, delivery, entry, taken=taken, final=final)
        except DATABASE_ERRORS as exc:  # its lease runs out, and it is sent again
            log.warning("delivery_not_written", **about, error=str(exc))
            return
        if taken:
            log.info("webhook_delivered", **about)
        elif settled is not None:
            log.warning("webhook_not_delivered", **about, status=settled.status, error=entry["error"])
