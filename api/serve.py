"""`python -m api.serve`: the API in this process, as configured by the environment."""

import asyncio
import sys

import uvicorn

from api.errors import ConfigError
from api.logs import configure_logs, report
from api.main import create_app
from api.redis_address import redis_url
from api.resources import open_resources
from api.settings import Settings, load_settings

GRACEFUL_SECONDS = 5


def main() -> int:
    """Serve until SIGTERM or SIGINT; a wrong configuration is one line and an exit code of its own."""
    try:
        settings = load_settings()
        configure_logs(settings.masuka_log_level)
        settings.require_safe_bind(settings.masuka_host)
        asyncio.run(_try_out(settings))
    except ConfigError as exc:
        return report(exc)
    uvicorn.run(
        create_app(settings),
        host=settings.masuka_host,
        port=settings.masuka_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    return 0


async def _try_out(settings: Settings) -> None:
    """Open and close everything once: inside uvicorn, what is wrong would be a traceback. Raises ConfigError."""
    async with open_resources(settings, redis_url(settings)):
        pass


if __name__ == "__main__":
    sys.exit(main())
