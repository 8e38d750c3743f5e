"""A worker process: arq answers the bell, the dispatcher does the jobs."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError

from api.child import EX_CONFIG
from api.domain.job import Kind, Queue
from api.errors import ConfigError
from api.logs import configure_logs
from api.queue import TICKET, deserialize, queue_key, serialize, wake_channel
from api.redis_server import redis_url
from api.resources import Resources, open_resources
from api.services.workers import PULSE_LIFE_SECONDS, PULSE_SECONDS, pulse_key
from api.settings import Settings, load_settings
from api.tasks.dispatch import Dispatcher, Runner
from api.tasks.generate import generate
from api.tasks.gpu import GpuKit, open_gpu
from api.tasks.reconcile import reconcile_forever
from api.tasks.train import train

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""How late a ticket is noticed when the wake-up call is lost."""
TICKET_TIMEOUT_SECONDS = 30


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
            await asyncio.sleep(1)


async def _hear_wake_ups(resources: Resources, queue: Queue, wake: asyncio.Event) -> None:
    async with resources.redis.pubsub() as pubsub:
        await pubsub.subscribe(wake_channel(queue))
        async for _ in pubsub.listen():
            wake.set()


async def pulse(resources: Resources, queue: Queue, state: Callable[[], dict[str, Any]]) -> None:
    """Keep saying that this worker lives, and how it is."""
    who = {"host": socket.gethostname(), "pid": os.getpid()}
    while True:
        try:
            await resources.redis.set(pulse_key(queue), json.dumps({**who, **state()}), ex=PULSE_LIFE_SECONDS)
        except (RedisError, OSError) as exc:
            log.warning("pulse_failed", error=str(exc))
        await asyncio.sleep(PULSE_SECONDS)


@contextlib.asynccontextmanager
async def _kit(resources: Resources, queue: Queue) -> AsyncIterator[GpuKit | None]:
    if queue is Queue.GPU:
        async with open_gpu(resources) as kit:
            yield kit
    else:
        yield None


def runners(kit: GpuKit) -> dict[Kind, Runner]:
    return {Kind.IMAGE: partial(generate, kit), Kind.TRAINING: partial(train, kit)}


async def work(settings: Settings, queue: Queue) -> None:
    """Run a worker of `queue` until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with open_resources(settings, redis_url(settings)) as resources, _kit(resources, queue) as kit:
        dispatcher = Dispatcher(resources, queue, runners(kit) if kit else {})
        duties: list[Coroutine[Any, Any, None]] = [
            dispatcher.heartbeat(),
            dispatcher.look_for_work(),
            dispatcher.hear_cancels(),
            answer_bells(resources, dispatcher),
            pulse(resources, queue, kit.state if kit else dict),
        ]
        if queue is Queue.CPU:
            duties.append(reconcile_forever(resources))
        log.info("worker_started", queue=queue.value)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(duty) for duty in duties]
            await stopped.wait()
            await dispatcher.close()
            for task in tasks:
                task.cancel()
        log.info("worker_stopped", queue=queue.value)


def main() -> int:
    """`python -m api.worker gpu|cpu`; a wrong configuration is one line and exit code 78."""
    try:
        settings = load_settings()
        configure_logs(settings.masuka_log_level)
        asyncio.run(work(settings, Queue(sys.argv[1])))
    except ConfigError as exc:
        print(f"masuka: {exc}", file=sys.stderr)  # noqa: T201 - a command's one line of output
        return EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
