"""`installed.json`: written last, so that it is there exactly when the installation in its folder is finished."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAME = "installed.json"


@dataclass(frozen=True, slots=True)
class Receipt:
    spec: str
    """Hash of everything that decides what is installed; another one means: install again."""
    version: str
    source: str = ""
    """The engine's own code: ComfyUI's folder, SimpleTuner's train.py."""
    python: str = ""
    env: dict[str, str] = field(default_factory=dict)
    gpu: bool = False
    weights: str = ""
    """bf16 or fp8, for a base model."""
    packages: dict[str, str] = field(default_factory=dict)
    """What the engine itself said of its versions when it was tried."""


def read(folder: Path) -> Receipt | None:
    """The receipt, or None when the installation is not finished or was made by another version of this file."""
    try:
        return Receipt(**json.loads((folder / NAME).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write(folder: Path, receipt: Receipt) -> None:
    temporary = folder / f".{NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(receipt), indent=2) + "\n")
    temporary.replace(folder / NAME)


def forget(folder: Path) -> None:
    """From now on the installation counts as unfinished."""
    (folder / NAME).unlink(missing_ok=True)


def spec_hash(parts: Iterable[str | bytes | Path]) -> str:
    """One hash over values and contents of files, in order."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
