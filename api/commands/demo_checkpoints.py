"""What the demo's LoRA was like on its way: the training checkpoints, kept before the service tidies them away."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from api.client import Api
from api.engines.safetensors_file import is_complete
from api.trainer.workdir import FINAL_LORA, Workdir


@dataclass(slots=True)
class Checkpoints:
    """Of a training that runs on this machine in `workdir`; their LoRAs are copied into `folder`."""

    workdir: Workdir
    folder: Path
    steps: Iterable[int]
    """After which one is saved, the last step left out: that is the LoRA itself."""
    kept: dict[int, Path] = field(default_factory=dict)

    def keep_new(self) -> None:
        """Copy those that are there and whole."""
        for step in self.steps:
            lora = self.workdir.checkpoint(step) / FINAL_LORA
            if step not in self.kept and lora.is_file() and is_complete(lora):
                self.folder.mkdir(parents=True, exist_ok=True)
                self.kept[step] = Path(shutil.copyfile(lora, self.folder / f"step-{step}.safetensors"))

    def as_models(self, client: Api, base_model: str) -> dict[int, str]:
        """Ids of models that draw as the LoRA did after so many steps."""
        return {
            step: client.import_lora(lora, {"name": f"demo, step {step}", "base_model": base_model})["id"]
            for step, lora in self.kept.items()
        }
