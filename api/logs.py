"""Logs are structured events on stderr; secrets never get there."""

import logging
import sys

import structlog

from api.errors import EX_CONFIG, ConfigError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Stderr:
    """Standard error as long as somebody reads it.

    A process whose supervisor was killed must still end in good order, and not at its first log line.
    """

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except BrokenPipeError:
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except BrokenPipeError:
            return


def configure_logs(level: str) -> None:
    """One line an event, coloured on a terminal; library loggers go the same way."""
    stream = _Stderr()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=stream, level=max(LEVELS[level], logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )


def report(exc: ConfigError) -> int:
    """One line for people; the exit code of a process whose configuration is wrong."""
    _Stderr().write(f"masuka: {exc}\n")
    return EX_CONFIG
