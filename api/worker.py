"""A worker process: arq answers the bell, the dispatcher does the jobs."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError

from api.domain.job import Kind, Queue
from api.errors import ConfigError
from api.heap import settle
from api.logs import configure_logs, report
from api.queue import ANSWER_SECONDS, TICKET, deserialize, queue_key, serialize, wake_channel
from api.redis_address import redis_url
from api.resources import Resources, open_resources, until_reachable
from api.services.workers import PULSE_LIFE_SECONDS, PULSE_SECONDS, pulse_key
from api.settings import Settings, load_settings
from api.signs import give_signs
from api.tasks.admission import Survey
from api.tasks.dispatch import Dispatcher, Runner

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""How late a ticket is noticed when the wake-up call is lost."""
RECONNECT_SECONDS = 1.0
TICKET_TIMEOUT_SECONDS = 30

Duty = Coroutine[Any, Any, None]
"""Runs until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What one kind of worker has besides what all have."""

    runners: Mapping[Kind, Runner] = field(default_factory=dict)
    duties: tuple[Duty, ...] = ()
    state: Callable[[], dict[str, Any]] = dict
    """Said with every pulse; called in a thread, as it may look into files."""
    survey: Survey | None = None


Equip = Callable[[Resources], AbstractAsyncContextManager[Equipment]]


class BellWorker(Worker):
    """arq's worker, which also looks for tickets the moment one is announced."""

    def __init__(self, *args: Any, wake: asyncio.Event, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wake = wake

    async def main(self) -> None:
        while True:
            self._wake.clear()
            await self._poll_iteration()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):  # wait_for would lose a cancellation (bpo-42130, before 3.12)
                    await self._wake.wait()


async def answer_bells(resources: Resources, dispatcher: Dispatcher) -> None:
    """Claim work at every ticket, for ever; interruptions of Redis are waited out."""

    async def answer(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
        await dispatcher.pump()

    while True:
        wake = asyncio.Event()
        worker = BellWorker(
            [func(answer, name=TICKET)],
            wake=wake,
            queue_name=queue_key(dispatcher.queue),
            redis_pool=resources.redis,
            handle_signals=False,
            job_timeout=TICKET_TIMEOUT_SECONDS,
            keep_result=0,
            poll_delay=POLL_SECONDS,
            job_serializer=serialize,
            job_deserializer=deserialize,
            log_results=False,
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_hear_wake_ups(resources, dispatcher.queue, wake))
                group.create_task(worker.async_run())
        except* (RedisError, OSError) as errors:
            log.warning("bell_interrupted", error=str(errors.exceptions[0]))
            await asyncio.sleep(RECONNECT_SECONDS)


async def _hear_wake_ups(resources: Resources, queue: Queue, wake: asyncio.Event) -> None:
    async with resources.redis.pubsub() as pubsub:
        await pubsub.subscribe(wake_channel(queue))
        async for _ in pubsub.listen():
            wake.set()


async def pulse(resources: Resources, queue: Queue, state: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Keep saying that this worker lives, and how it is; at the end, that it does no more."""
    who = {"host": socket.gethostname(), "pid": os.getpid()}
    try:
        while True:
            async with _best_effort("pulse_failed"):
                said = json.dumps({**who, **await state()})  # no limit: a second thread would hang on the same disk
                async with asyncio.timeout(ANSWER_SECONDS):
                    await resources.redis.set(pulse_key(queue), said, ex=PULSE_LIFE_SECONDS)
            await asyncio.sleep(PULSE_SECONDS)
    finally:
        async with _best_effort("pulse_not_ended"), asyncio.timeout(ANSWER_SECONDS):
            await resources.redis.delete(pulse_key(queue))


@contextlib.asynccontextmanager
async def _best_effort(failure: str) -> AsyncIterator[None]:
    """What cannot be told, or not in time, is logged as `failure`, and no more."""
    try:
        yield
    except (RedisError, OSError) as exc:
        log.warning(failure, error=str(exc))


async def work(settings: Settings, queue: Queue, equip: Equip) -> None:
    """Run a worker of `queue` until SIGTERM or SIGINT; a second one makes its end faster. Raises ConfigError."""
    stopped, hurry = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _heard, stopped, hurry)
    signs = asyncio.create_task(give_signs())
    try:
        if await until_reachable(settings, stopped):
            async with open_resources(settings, redis_url(settings)) as resources, equip(resources) as equipment:
                dispatcher = Dispatcher(resources, queue, equipment.runners, equipment.survey)
                await _work(dispatcher, equipment, stopped, hurry)
    finally:
        signs.cancel()


def _heard(stopped: asyncio.Event, hurry: asyncio.Event) -> None:
    if stopped.is_set():
        hurry.set()
    stopped.set()


async def _work(dispatcher: Dispatcher, equipment: Equipment, stopped: asyncio.Event, hurry: asyncio.Event) -> None:
    resources, queue = dispatcher.resources, dispatcher.queue

    async def state() -> dict[str, Any]:
        return {**dispatcher.state(), **await asyncio.to_thread(equipment.state)}

    duties: tuple[Duty, ...] = (
        dispatcher.heartbeat(),
        dispatcher.look_for_work(),
        dispatcher.hear_cancels(),
        answer_bells(resources, dispatcher),
        pulse(resources, queue, state),
        *equipment.duties,
    )
    log.info("worker_started", queue=queue.value)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(duty) for duty in duties]
        try:
            await stopped.wait()
            await dispatcher.close(hurry)
        finally:  # also when a duty failed: every attempt is stopped in good order
            await dispatcher.close()
        for task in tasks:
            task.cancel()
    log.info("worker_stopped", queue=queue.value)


def run(queue: Queue, equip: Equip) -> int:
    """A worker's whole life; its exit code."""
    try:
        settings = load_settings()
        configure_logs(settings.masuka_log_level)
        settle()
        asyncio.run(work(settings, queue, equip))
    except ConfigError as exc:
        return report(exc)
    return 0
