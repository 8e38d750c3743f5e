"""Training checkpoints on the disk: which there are, and whether one is whole."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import structlog

from api.errors import InputError
from api.trainer.lora import check_lora
from api.trainer.simpletuner import DATASET_BACKEND
from api.trainer.workdir import FINAL_LORA, Workdir, write_json

log = structlog.get_logger(__name__)

Recorded = Mapping[str, str]
"""SHA-256 by file name: what a training checkpoint was when it was stored."""

_NAME = re.compile(r"checkpoint-([1-9]\d*)")
_SAMPLER_STATE = f"training_state-{DATASET_BACKEND}.json"
_JSON_FILES = ("training_state.json", _SAMPLER_STATE)
_ABOUT_PHOTOS = frozenset(
    {"aspect_ratio_bucket_indices", "buckets", "exhausted_buckets", "current_bucket", "seen_images"}
)
_TORCH_FILES = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")
_NOT_STATE = frozenset({"README.md", "simpletuner_config.json"})
"""Written beside the state only after the trainer has announced it, and read by nobody who resumes."""


def step_of(folder: str) -> int | None:
    """The step of a training checkpoint by the path of its folder; None for any other path."""
    found = _NAME.fullmatch(Path(folder).name)
    return int(found[1]) if found else None


def state_files(folder: Path) -> list[Path]:
    """What a trainer needs to resume from here. Raises FileNotFoundError when the trainer has removed the folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name not in _NOT_STATE)


def damage(folder: Path, step: int) -> str | None:
    """What keeps a trainer from resuming here, None if nothing does; reads every byte of the state.

    A trainer killed while it saved leaves files cut off or missing; a power cut also leaves them empty or full of
    zeros. Weights that are not finite are damage, too: no step from there leads back.
    """
    try:
        states = [json.loads((folder / name).read_bytes()) for name in _JSON_FILES]
        if not all(isinstance(state, dict) for state in states) or states[0].get("global_step") != step:
            return "its state is of another step"
        check_lora(folder / FINAL_LORA)
        broken = next((name for name in _TORCH_FILES if not _is_whole_archive(folder / name)), None)
    except FileNotFoundError as exc:
        return f"{Path(exc.filename).name} is missing"
    except (InputError, OSError, ValueError) as exc:
        return str(exc)
    return f"{broken} is cut off or changed" if broken else None


def newest_whole(workdir: Workdir, recorded: Mapping[int, Recorded]) -> int:
    """The step that a trainer in `workdir` would resume at, 0 for none.

    Whatever it would take for a newer one is removed: damaged folders, those that are not what was `recorded` of
    their step, and names that it stumbles over.
    """
    for stray in workdir.output.glob("checkpoint*"):
        if step_of(stray.name) is None:
            _remove(stray, "it is not a training checkpoint")
    steps = (step_of(path.name) for path in workdir.output.glob("checkpoint-*"))
    for step in sorted(filter(None, steps), reverse=True):
        folder = workdir.checkpoint(step)
        problem = damage(folder, step) or _difference(folder, recorded.get(step, {}))
        if problem is None:
            return step
        _remove(folder, problem)
    return 0


def relocate(workdir: Workdir, step: int) -> None:
    """Let the training checkpoint of `step`, a whole one, name the photos where they are now.

    It holds their paths as they were where it was saved, on another machine perhaps, and 4.8 reads them from there.
    """
    path = workdir.checkpoint(step) / _SAMPLER_STATE
    state: dict[str, Any] = json.loads(path.read_bytes())
    relocated = relocated_state(state, workdir.dataset, {photo.name for photo in workdir.dataset.iterdir()})
    if relocated != state:
        write_json(path, relocated)


def relocated_state(state: dict[str, Any], dataset: Path, there: set[str]) -> dict[str, Any]:
    """The state of the sampler for the photos in `dataset`; from the start of an epoch when one of them is gone."""
    buckets, seen = state.get("aspect_ratio_bucket_indices", {}), state.get("seen_images", {})
    if not {Path(photo).name for photo in chain(seen, *buckets.values())} <= there:
        return {name: value for name, value in state.items() if name not in _ABOUT_PHOTOS}
    here = {
        "aspect_ratio_bucket_indices": {
            shape: [str(dataset / Path(photo).name) for photo in photos] for shape, photos in buckets.items()
        },
        "seen_images": {str(dataset / Path(photo).name): times for photo, times in seen.items()},
    }
    return state | {name: value for name, value in here.items() if name in state}


def _is_whole_archive(path: Path) -> bool:
    """`torch.save` writes zip files with a checksum of every part."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return False


def _difference(folder: Path, recorded: Recorded) -> str | None:
    for name, sha256 in recorded.items():
        path = folder / name
        if name == _SAMPLER_STATE and path.exists():
            continue  # `relocate` may have changed it; that it can be read was seen before
        if not path.exists() or _sha256(path) != sha256:
            return f"{name} is not what was stored"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path, reason: str) -> None:
    log.warning("training_checkpoint_removed", path=str(path), reason=reason)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
