"""The API token that was made here: a file of the data folder that nobody else may read."""

import os
import secrets
from pathlib import Path

from filelock import FileLock

NAME = "api_token"
TOKEN_BYTES = 32
PRIVATE = 0o600


def stored(data_dir: Path) -> str:
    """Empty when none has been made."""
    try:
        return (data_dir / NAME).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def ensure(data_dir: Path) -> bool:
    """Have one; whether it was made now. Several who want one at once get the same. Raises OSError."""
    with _alone(data_dir):
        if stored(data_dir):
            return False
        _make(data_dir)
        return True


def replace(data_dir: Path) -> None:
    """A new one in the place of the old, which opens until the service starts anew. Raises OSError."""
    with _alone(data_dir):
        _make(data_dir)


def is_private(data_dir: Path) -> bool:
    """Whether only its owner may read it; so may nobody what is not there."""
    try:
        return (data_dir / NAME).stat().st_mode & 0o077 == 0
    except FileNotFoundError:
        return True


def _make(data_dir: Path) -> None:
    """Whole before it has its name: what a crash leaves is no token, and the next one overwrites it."""
    part = data_dir / f".{NAME}.part"
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w") as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(data_dir / NAME)


def _alone(data_dir: Path) -> FileLock:
    return FileLock(data_dir / f".{NAME}.lock")
