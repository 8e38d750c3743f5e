"""What a backup says of itself: an index in two copies, and a manifest for each snapshot of the database.

backups/index-a.json, index-b.json     the newest valid one counts; each new one replaces the older of the two
backups/<snapshot>/manifest.json       what the snapshot is, with the hashes of what belongs to it
backups/<snapshot>/rows.jsonl.gz       every row of every table
backups/<snapshot>/files.jsonl.gz      key, size and SHA-256 of every file that was copied besides
"""

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

FOLDER = "backups"
FORMAT: Literal[1] = 1
KEPT = 5
"""Snapshots; a backup that turns out damaged is not the only one."""
INDEX_KEYS = (f"{FOLDER}/index-a.json", f"{FOLDER}/index-b.json")
SNAPSHOT_ID = r"[0-9]{8}t[0-9]{6}z-[0-9]{6,}"


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("must have a time zone")
    return at


Time = Annotated[datetime, AfterValidator(_aware)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Part):
    """One file of a snapshot."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"[0-9a-f]{64}")


class Manifest(_Part):
    """Nothing in it is a secret: the rows are, and they are in a file of their own."""

    format: Literal[1] = FORMAT
    id: str = Field(pattern=SNAPSHOT_ID)
    made_at: Time
    masuka: str
    """The version that made it."""
    revision: str
    """Of the database's schema."""
    installation: UUID
    """Whose it is: a backup goes on only with the installation that it belongs to."""
    tables: dict[str, int]
    """Rows, by table."""
    rows: Part
    files: Part | None
    """The list of the files that were copied; None where they stay in the bucket that the service itself uses."""
    file_count: int = Field(ge=0)
    file_bytes: int = Field(ge=0)


class Entry(_Part):
    """A snapshot as the index names it, with the hash of its manifest."""

    id: str = Field(pattern=SNAPSHOT_ID)
    made_at: Time
    manifest: Part
    rows_sha256: str


class Index(_Part):
    format: Literal[1] = FORMAT
    number: int = Field(ge=1)
    """One more than in the index before it: of two copies the higher one counts."""
    installation: UUID
    snapshots: list[Entry]
    """Newest first."""

    def with_newest(self, entry: Entry) -> "Index":
        snapshots = [entry, *self.snapshots][:KEPT]
        return self.model_copy(update={"number": self.number + 1, "snapshots": snapshots})

    def dropped_by(self, newer: "Index") -> list[Entry]:
        """The snapshots that are in this one and no more in the newer one."""
        kept = {entry.id for entry in newer.snapshots}
        return [entry for entry in self.snapshots if entry.id not in kept]

    @property
    def key(self) -> str:
        return INDEX_KEYS[self.number % 2]


def newest_index(copies: Sequence[bytes]) -> Index | None:
    """The one that counts; None when there is none. Raises ValueError when there are copies and none is whole."""
    found = []
    for copy in copies:
        try:
            found.append(Index.model_validate_json(copy))
        except ValidationError:
            continue
    if copies and not found:
        raise ValueError("no copy of the index can be read")
    return max(found, key=lambda index: index.number, default=None)


def snapshot_id(made_at: datetime, number: int) -> str:
    """`number` is that of the index which will name it first."""
    return f"{made_at:%Y%m%dt%H%M%Sz}-{number:06}"


def manifest_key(snapshot: str) -> str:
    return f"{FOLDER}/{snapshot}/manifest.json"


def rows_key(snapshot: str) -> str:
    return f"{FOLDER}/{snapshot}/rows.jsonl.gz"


def files_key(snapshot: str) -> str:
    return f"{FOLDER}/{snapshot}/files.jsonl.gz"


def copy_key(key: str) -> str:
    """Where a backup has its copy of a file of the storage."""
    return f"files/{key}"


def encode(value: Any) -> Any:
    """A column's value as JSON has it."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def decode(value: Any, kind: type) -> Any:
    """Back to what a column of this Python type takes."""
    if value is None:
        return None
    if kind is UUID:
        return UUID(value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is bytes:
        return base64.b64decode(value)
    return value


def line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
