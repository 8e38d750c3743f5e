"""LoRAs of training checkpoints, as a GPU worker leaves them."""

from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

from api.db import Sessions
from api.domain.candidate import shown_name
from api.domain.checkpoint import Rule
from api.models import TrainingCandidate
from api.services import candidates
from api.services.lora_intake import file_key
from api.storage import Storage
from tests.service import tiny_lora

MOST = 20
RULE = Rule(newest=2, best=1)


async def add_candidate(
    sessions: Sessions,
    storage: Storage,
    session_id: UUID,
    step: int,
    *,
    most: int = MOST,
    rank: int | None = None,
    **fields: Any,
) -> TrainingCandidate:
    """Of another rank, and so of another content, for each step. Raises TakenError, with the file left behind."""
    data = tiny_lora(rank=rank or step % 100 or 100)
    digest, name = sha256(data).hexdigest(), shown_name("me", step)
    with TemporaryDirectory() as folder:
        path = Path(folder, "lora")
        path.write_bytes(data)
        stored = await storage.put_file(file_key(name, digest, uuid4().hex), path)
    about: dict[str, Any] = {"name": name, "base_model": "flux-tiny", "storage_path": stored.key, "sha256": digest}
    about |= {"size_bytes": len(data), "rank": 4, "modules": 1}
    row = TrainingCandidate(session_id=session_id, step=step, **(about | fields))
    async with sessions.begin() as session:
        await candidates.add(session, row, most, RULE)
    return row
