"""Loaded by Python as a trainer starts whose PYTHONPATH names this folder: brings about what cannot be waited for.

MASUKA_TRAINER_FAULT is NAME:NUMBER, see `FAULTS`.
"""

import atexit
import importlib.abc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.65 GiB of which 13.81 MiB is "
    "free. Including non-PyTorch memory, this process has 23.62 GiB memory in use."
)


def out_of_memory(number: int) -> None:
    """In that optimizer step, as torch says it on a GPU."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    steps = iter(range(1, number))

    def before_step(*_: Any) -> None:
        if next(steps, None) is None:
            raise torch.cuda.OutOfMemoryError(OUT_OF_MEMORY)

    register_optimizer_step_pre_hook(before_step)


def disk_full(number: int) -> None:
    """From that file of a training checkpoint on."""
    _instead_of_saving(number, lambda save, value, path: save(value, "/dev/full"), checkpoints=True)


def disk_full_for_caches(number: int) -> None:
    """From that cached caption or image on."""

    def save_to_full_disk(save: Callable[..., None], value: Any, _: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            save(value, full)

    _instead_of_saving(number, save_to_full_disk, checkpoints=False)


def killed_while_saving(number: int) -> None:
    """Half-way through that file of a training checkpoint."""

    def die(save: Callable[..., None], value: Any, path: Any) -> None:
        save(value, path)
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    _instead_of_saving(number, die, checkpoints=True)


def lora_lost(_: int) -> None:
    """The final LoRA is no more when the trainer ends, which has said that all is well."""
    output = json.loads(Path(os.environ["CONFIG_PATH"]).read_text())["output_dir"]
    atexit.register(os.remove, f"{output}/pytorch_lora_weights.safetensors")


def _instead_of_saving(
    number: int, act: Callable[[Callable[..., None], Any, Any], None], *, checkpoints: bool
) -> None:
    import torch

    save, saved = torch.save, iter(range(1, number))

    def save_or_act(value: Any, path: Any, *args: Any, **options: Any) -> None:
        if ("checkpoint-" in str(path)) is checkpoints and next(saved, None) is None:
            act(save, value, path)
        else:
            save(value, path, *args, **options)

    torch.save = save_or_act


FAULTS = {fault.__name__: fault for fault in (out_of_memory, disk_full, disk_full_for_caches, killed_while_saving, lora_lost)}


class WhenTheTrainerIsImported(importlib.abc.MetaPathFinder):
    """Finds nothing itself."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "simpletuner.helpers.training.trainer":
            sys.meta_path.remove(self)
            name, number = os.environ["MASUKA_TRAINER_FAULT"].split(":")
            FAULTS[name](int(number))


sys.meta_path.insert(0, WhenTheTrainerIsImported())
