"""What the tests of the real ComfyUI share: graphs, pictures, LoRA files."""

import json
import math
import struct
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from api.comfy.client import ComfyClient
from api.comfy.history import Outcome
from api.comfy.messages import Progress, Step
from api.comfy.server import ComfyServer
from api.domain.engine import InstalledBase
from api.domain.workflow import Graph, LoraUse, Value, bind, parse_template
from api.settings import PROJECT_ROOT

SAMPLER, LATENT, SAVE = "9", "8", "11"
"""Node ids in the shipped template."""
STEPS = 4
Pixels = NDArray[np.int16]


@dataclass
class Drawing:
    """One prompt: what was asked, what was told meanwhile, how it ended."""

    prompt_id: str
    graph: Graph
    told: list[Step] = field(default_factory=list)
    outcome: Outcome | None = None

    def complaints(self) -> tuple[str, ...]:
        assert self.outcome is not None
        return self.outcome.lora_complaints

    def sampled(self) -> list[int]:
        """The sampling steps that were reported."""
        return [step.value for step in self.told if isinstance(step, Progress) and step.node == SAMPLER]


@dataclass
class Lab:
    """A ComfyUI with flux-tiny, and a folder for pictures."""

    server: ComfyServer
    base: InstalledBase
    folder: Path

    def drawing(self, loras: tuple[LoraUse, ...] = (), **parameters: Value) -> Drawing:
        """A prompt of 64 pixels and 4 steps under a new id."""
        template = parse_template(
            "flux", (PROJECT_ROOT / "comfy_workflows" / "flux_text_to_image.json").read_text(encoding="utf-8")
        )
        prompt_id = str(uuid.uuid4())
        values: dict[str, Value] = {
            **template.defaults(),
            "unet_name": self.base.unet_name,
            "clip_l_name": self.base.clip_l_name,
            "t5xxl_name": self.base.t5xxl_name,
            "vae_name": self.base.vae_name,
            "prompt": "a red circle on a blue background",
            "width": 64,
            "height": 64,
            "num_inference_steps": STEPS,
            "filename_prefix": self.server.output_prefix(prompt_id),
        }
        return Drawing(prompt_id, bind(template, {**values, **parameters}, loras))

    def faulty(self, fault: str, seconds: float = 0.0, **parameters: Value) -> Drawing:
        """A drawing that meets a fault before its sampler begins."""
        drawing = self.drawing((), **parameters)
        drawing.graph["50"] = {
            "class_type": "TestFault",
            "inputs": {
                "latent": [LATENT, 0],
                "fault": fault,
                "seconds": seconds,
                "nonce": drawing.prompt_id,
                "once": "",
            },
        }
        drawing.graph[SAMPLER]["inputs"]["latent_image"] = ["50", 0]
        return drawing

    def without_models(self, fault: str) -> Drawing:
        """A prompt that any ComfyUI can run: an empty latent, a fault, a file."""
        prompt_id = str(uuid.uuid4())
        graph: Graph = {
            "1": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
            "2": {
                "class_type": "TestFault",
                "inputs": {"latent": ["1", 0], "fault": fault, "seconds": 0.0, "nonce": prompt_id, "once": ""},
            },
            "3": {
                "class_type": "SaveLatent",
                "inputs": {"samples": ["2", 0], "filename_prefix": self.server.output_prefix(prompt_id)},
            },
        }
        return Drawing(prompt_id, graph)

    async def draw(self, client: ComfyClient, drawing: Drawing) -> Outcome:
        await client.submit(drawing.graph, drawing.prompt_id, on_progress=drawing.told.append)
        drawing.outcome = await client.wait(drawing.prompt_id)
        return drawing.outcome

    async def fetch(self, client: ComfyClient, outcome: Outcome) -> Path:
        """The only picture of an outcome, taken away from ComfyUI."""
        (output,) = outcome.outputs
        path = self.folder / output.filename
        assert await client.download(output, path) == path.stat().st_size
        self.server.discard_outputs_of(output.filename.rpartition("_00001_")[0])
        return path

    async def pixels(self, client: ComfyClient, loras: tuple[LoraUse, ...] = (), **parameters: Value) -> Pixels:
        """Draw, and decode the picture."""
        return await self.pixels_of(client, self.drawing(loras, **parameters))

    async def pixels_of(self, client: ComfyClient, drawing: Drawing) -> Pixels:
        outcome = await self.draw(client, drawing)
        with Image.open(await self.fetch(client, outcome)) as image:
            return np.asarray(image.convert("RGB"), dtype=np.int16)

    def left_over(self) -> list[Path]:
        """Files in ComfyUI's output and temp folders."""
        base_dir = self.server.lora_dir.parent.parent
        return [path for name in ("output", "temp") for path in (base_dir / name).rglob("*") if path.is_file()]

    def add_lora(self, name: str, modules: dict[str, tuple[int, int]]) -> str:
        """A new LoRA file, written elsewhere and renamed into ComfyUI's folder."""
        file_name = f"{name}-{uuid.uuid4().hex[:8]}.safetensors"
        written = self.folder / file_name
        write_lora(written, modules)
        written.rename(self.server.lora_dir / file_name)
        return file_name


HIDDEN = 128
BLOCKS = 4
ATTENTION = {
    f"transformer.transformer_blocks.{block}.attn.{module}": (HIDDEN, HIDDEN)
    for block in range(BLOCKS)
    for module in ("to_q", "to_k", "to_v", "to_out.0")
}
"""The modules of flux-tiny that SimpleTuner trains by default, with output and input features."""


def write_lora(path: Path, modules: dict[str, tuple[int, int]], rank: int = 4, amplitude: float = 2.0) -> None:
    """Random weights in PEFT's layout, strong enough to be seen."""
    random = np.random.default_rng(7)
    tensors: dict[str, NDArray[np.float32]] = {}
    for module, (out_features, in_features) in modules.items():
        down = random.normal(size=(rank, in_features)) / math.sqrt(in_features)
        up = random.normal(size=(out_features, rank)) * amplitude / math.sqrt(rank)
        tensors[f"{module}.lora_A.weight"] = down.astype(np.float32)
        tensors[f"{module}.lora_B.weight"] = up.astype(np.float32)
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(t.tobytes() for t in tensors.values()))
