"""Runs in SimpleTuner's environment: where its own code puts pictures, and what its tokenizer makes of captions.

    python prepare_pictures.py TASK.json DONE.json

The task has `cases`, each (width, height, resolution), `tokenizer`, a folder, and `captions`.
"""

import json
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

HELPERS = "simpletuner.helpers"  # not to be found from where this file is checked
StateTracker = import_module(f"{HELPERS}.training.state_tracker").StateTracker
TrainingSample = import_module(f"{HELPERS}.image_manipulation.training_sample").TrainingSample
CLIPTokenizer = import_module("transformers").CLIPTokenizer

ARGUMENTS = SimpleNamespace(aspect_bucket_alignment=64, aspect_bucket_rounding=2)


def placed(width: int, height: int, resolution: int) -> list[Any] | None:
    """(size in training, size before cropping); None when the trainer fails on the picture and leaves it out."""
    backend = {
        "crop": True,
        "crop_style": "center",
        "crop_aspect": "preserve",
        "resolution": (resolution * resolution) / (1000**2),  # as `_handle_resolution_conversion` has it
        "resolution_type": "area",
    }
    StateTracker.get_data_backend_config = lambda *_: backend
    StateTracker.aspect_resolution_map = {}
    try:
        ready = TrainingSample(None, "images", image_metadata={"original_size": (width, height)}).prepare()
    except ZeroDivisionError:
        return None
    return [ready.target_size, ready.intermediary_size]


StateTracker.get_args = lambda: ARGUMENTS
StateTracker.get_model = StateTracker.get_webhook_handler = lambda: None
StateTracker._save_to_disk = lambda *_: None
with open(sys.argv[1]) as file:
    task = json.load(file)
tokenizer = CLIPTokenizer.from_pretrained(task["tokenizer"])
with open(sys.argv[2], "w") as file:
    json.dump(
        {
            "placed": [placed(*case) for case in task["cases"]],
            "tokens": [len(tokenizer(caption)["input_ids"]) for caption in task["captions"]],
        },
        file,
    )
