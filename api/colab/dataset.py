"""The dataset of a training: sent once, and known again by its files, also on another machine."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.colab import pictures_in
from api.colab.client import Api
from api.colab.form import Form
from api.colab.show import Live

MARK = "notebook_sha256"
"""Under `preprocessing_params` of a dataset: of the files that it was made of."""


def dataset_of(api: Api, files: Sequence[Path], name: str, trigger_word: str) -> dict[str, Any]:
    """The one that was made of these files before, also before the machine was lost; else a new one."""
    mark = mark_of(files, name, trigger_word)
    for dataset in api.every("/api/datasets/"):
        if ((dataset["dataset_metadata"] or {}).get("preprocessing_params") or {}).get(MARK) == mark:
            return dataset
    return _sent(api, files, name, trigger_word, mark)


def mark_of(files: Sequence[Path], name: str, trigger_word: str) -> str:
    told = [[path.name, pictures_in.sha256(path)] for path in files]
    return hashlib.sha256(json.dumps([name, trigger_word, told]).encode()).hexdigest()


def _sent(api: Api, files: Sequence[Path], name: str, trigger_word: str, mark: str) -> dict[str, Any]:
    """With a word on every file that was refused."""
    Live().text(f"Sending {len(files)} files.")
    fields = {"name": name, "preprocessing_params": json.dumps({MARK: mark})}
    if trigger_word:
        fields["trigger_word"] = trigger_word
    made: dict[str, Any] = api.send("/api/datasets/", Form(fields, files))
    refused = [f"{each['filename']}: {each['reason']}" for each in made["files"] if each["status"] == "refused"]
    Live().text("\n".join([f"{made['image_count']} pictures taken.", *refused]))
    return made
