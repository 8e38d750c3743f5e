"""A file that grows over as many connections, and as many processes, as it takes."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from api.processes import boot_id


@dataclass(frozen=True, slots=True)
class Part:
    """In a folder of its own: the bytes so far, and of which version of the file they are."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "file.part"

    @property
    def _about(self) -> Path:
        return self.folder / "about.json"

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def etag(self) -> str | None:
        """Of the version that the bytes are of; None when they are of no use.

        After a crash of the machine they are not: what was written last may not have reached the disk.
        """
        try:
            about = json.loads(self._about.read_text())
            same = about["boot_id"] == boot_id() and self.path.exists()
            return str(about["etag"]) if same and about["etag"] else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def begin(self, etag: str | None) -> None:
        """Anew, with a version of which nothing is here yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self._about.write_text(json.dumps({"etag": etag, "boot_id": boot_id()}))

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def finish(self) -> None:
        """All of it is on the disk after this."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
