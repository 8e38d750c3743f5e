"""`python -m api.serve`: the API in this process, as configured by the environment."""

import sys

import uvicorn

from api.child import EX_CONFIG
from api.errors import ConfigError
from api.logs import configure_logs
from api.main import create_app
from api.settings import load_settings

GRACEFUL_SECONDS = 5


def main() -> int:
    """Serve until SIGTERM or SIGINT; a wrong configuration is one line and exit code 78."""
    try:
        settings = load_settings()
        settings.require_safe_bind(settings.masuka_host)
    except ConfigError as exc:
        print(f"masuka: {exc}", file=sys.stderr)  # noqa: T201 - a command's one line of output
        return EX_CONFIG
    configure_logs(settings.masuka_log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.masuka_host,
        port=settings.masuka_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
