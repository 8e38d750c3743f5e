"""Small training checkpoints with all that SimpleTuner puts into one."""

import json
import zipfile
from pathlib import Path

from tests.trainer.lora_files import lora, pair

STATE = {"training_state.json", "training_state-images.json", "pytorch_lora_weights.safetensors"} | {
    "optimizer.bin",
    "scheduler.bin",
    "random_states_0.pkl",
}
"""The names of the files that a trainer resumes from."""


def checkpoint(parent: Path, step: int) -> Path:
    """A whole one, in `parent`, under SimpleTuner's name for it; no two steps have the same optimizer."""
    folder = parent / f"checkpoint-{step}"
    (folder / "assets").mkdir(parents=True)
    (folder / "README.md").write_text("written late")
    (folder / "training_state.json").write_text(json.dumps({"global_step": step, "epoch": 1}))
    (folder / "training_state-images.json").write_text(json.dumps({"seen_images": {}}))
    lora(folder / "pytorch_lora_weights.safetensors", pair("transformer.transformer_blocks.0.attn.to_q"))
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data/0", f"{name} of step {step}" * 20)
    return folder
