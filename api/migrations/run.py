"""Brings a schema up to date with Alembic; loaded only when one is not (`db.migrate`)."""

from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import Connection


def configuration(connection: Connection | None = None) -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, revision: str) -> None:
    alembic.command.upgrade(configuration(connection), revision)
