"""`python -m api.serve`: the API in this process, as configured by the environment."""

import asyncio
import sys

import uvicorn

from api.errors import ConfigError
from api.heap import settle
from api.logs import configure_logs, report
from api.main import create_app
from api.redis_address import redis_url
from api.resources import open_resources, until_reachable
from api.settings import Settings, load_settings
from api.signs import give_signs

GRACEFUL_SECONDS = 5
KEEP_ALIVE_SECONDS = 75
"""Longer than a client keeps an idle connection (httpx 5 s, browsers a minute): else a request may meet its end."""
NOT_STARTED = 3
"""The exit code when the application or its socket could not be opened."""


def main() -> int:
    """Serve until SIGTERM or SIGINT; a wrong configuration is one line and an exit code of its own."""
    try:
        settings = load_settings()
        configure_logs(settings.masuka_log_level)
        settings.require_safe_bind(settings.masuka_host)
        config = uvicorn.Config(
            create_app(settings),
            host=settings.masuka_host,
            port=settings.masuka_port,
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=["127.0.0.1", "::1", *settings.masuka_trusted_proxies],
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            return runner.run(_serve(settings, config))
    except ConfigError as exc:
        return report(exc)
    except KeyboardInterrupt:  # uvicorn has ended in good order and passes on the signal that it was told by
        return 0


async def _serve(settings: Settings, config: uvicorn.Config) -> int:
    """Raises ConfigError for what would be a traceback inside uvicorn."""
    signs = asyncio.create_task(give_signs())
    try:
        await until_reachable(settings, asyncio.Event())
        async with open_resources(settings, redis_url(settings)):
            pass
        server = uvicorn.Server(config)
        settle()
        await server.serve()
        return 0 if server.started else NOT_STARTED
    finally:
        signs.cancel()


if __name__ == "__main__":
    sys.exit(main())
