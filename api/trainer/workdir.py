"""Where everything of one training lies: one folder, the same names in every attempt. Standard library only."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FINAL_LORA = "pytorch_lora_weights.safetensors"
"""SimpleTuner's name for a LoRA, in the output folder and in every training checkpoint."""


@dataclass(frozen=True, slots=True)
class Workdir:
    """`root` is absolute and belongs to one training; a later attempt works in the same folder and resumes."""

    root: Path

    @property
    def dataset(self) -> Path:
        """The images, each with its caption in a `.txt` of the same stem."""
        return self.root / "dataset"

    @property
    def config(self) -> Path:
        return self.root / "config" / "config.json"

    @property
    def backends(self) -> Path:
        return self.root / "config" / "multidatabackend.json"

    @property
    def webhook(self) -> Path:
        """Written by the runner, the only one who knows its port."""
        return self.root / "config" / "webhook.json"

    @property
    def triggers(self) -> Path:
        """SimpleTuner >= 4.8 looks here at each step for `{"manual_checkpoint": n}` with a new n."""
        return self.root / "config" / "triggers.json"

    @property
    def prompts(self) -> Path:
        """What is drawn at each training checkpoint: prompts by the trainer's names for them."""
        return self.root / "config" / "prompts.json"

    @property
    def cache(self) -> Path:
        """Encoded captions and images; a later attempt finds them again."""
        return self.root / "cache"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def final_lora(self) -> Path:
        return self.output / FINAL_LORA

    @property
    def samples(self) -> Path:
        """SimpleTuner's folder for what it draws between the steps."""
        return self.output / "validation_images"

    @property
    def run(self) -> Path:
        """The files of the newest attempt's runner; earlier ones are `run-1`, `run-2`, ..."""
        return self.root / "run"

    @property
    def spec(self) -> Path:
        """What the runner starts, and how."""
        return self.run / "spec.json"

    @property
    def runner(self) -> Path:
        """Who runs."""
        return self.run / "runner.json"

    @property
    def events(self) -> Path:
        """What the trainer said."""
        return self.run / "events.jsonl"

    @property
    def exit(self) -> Path:
        """How the run ended; its presence says that it did."""
        return self.run / "exit.json"

    @property
    def stdout(self) -> Path:
        return self.run / "stdout.log"

    @property
    def stderr(self) -> Path:
        return self.run / "stderr.log"

    def checkpoint(self, step: int) -> Path:
        """A training checkpoint, under SimpleTuner's name for it."""
        return self.output / f"checkpoint-{step}"

    @property
    def fetched(self) -> Path:
        """A training checkpoint on its way from the storage; renamed into `output` once it is whole."""
        return self.root / "fetched"

    @property
    def finished(self) -> Path:
        """The final LoRA with its alpha, on its way to the storage."""
        return self.root / "finished.safetensors"

    @property
    def working_state(self) -> tuple[Path, ...]:
        """All that is of use only until the training is over; the rest are configuration, messages and logs."""
        return self.dataset, self.cache, self.output, self.fetched, self.finished

    @property
    def given_up(self) -> Path:
        """What nobody will use again, and is about to be removed."""
        return self.root / "given-up"


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
