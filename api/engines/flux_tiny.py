"""Makes `flux-tiny`: a 3.5 M parameter FLUX that draws captioned shapes at 64 px, on machines without a GPU too.

One set of weights serves both engines. The trained parts (transformer, VAE) and the small layers of the two frozen text
encoders lie in `flux_tiny_files/`. Made here, not stored: the tokenizers, which every ComfyUI ships, and the two token
embeddings (6.9 of 7.3 MB), random by nature, which come from their seed. The transformer was trained on exactly these.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.engines.catalogue import FLUX_TINY
from api.engines.safetensors_file import TensorInfo, write_with_tensor
from api.errors import InstallError

STORED_FILES = Path(__file__).with_name("flux_tiny_files")


@dataclass(frozen=True, slots=True)
class Embedding:
    """A token embedding as torch drew it when the transformer was trained: `randn(rows, columns) * scale` in bf16."""

    folder: str
    tensor: str
    seed: int
    skipped_draws: int
    """How many random numbers the initialisation of the other layers had drawn before."""
    rows: int
    columns: int
    scale: float
    sha256: str


EMBEDDINGS = (
    Embedding(
        "text_encoder", "text_model.embeddings.token_embedding.weight", 1235, 3_200_256, 49_408, 32, 0.3,
        "acaa5a06ad38c9244e6f8dc4d01c9d40ff74782cc30e774c550219133b7822a6",
    ),
    Embedding(
        "text_encoder_2", "shared.weight", 1234, 4_342_016, 32_128, 64, 1.0,
        "da0a8c7b3b050db73486b705b9454cfe89fdd055efdf8121a78430e6c2f8fac2",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tokenizer:
    folder: str
    comfy_folder: str
    max_length: int
    """In tokens. ComfyUI's own configuration of CLIP says 8192, and diffusers then feeds CLIP more than its 77."""


TOKENIZERS = (
    Tokenizer("tokenizer", "comfy/sd1_tokenizer", 77),
    Tokenizer("tokenizer_2", "comfy/text_encoders/t5_tokenizer", 512),
)


def ingredients() -> list[Path]:
    """Every file that decides what comes out."""
    return [Path(__file__), *sorted(path for path in STORED_FILES.rglob("*") if path.is_file())]


def make(target: Path, comfy_source: Path) -> None:
    """Write `target/diffusers` and `target/models` (hard links to the same weights); `target` must be new.

    Raises InstallError `flux_tiny_mismatch` when an embedding does not come out as it was at training time.
    """
    pipeline = target / "diffusers"
    shutil.copytree(STORED_FILES, pipeline)
    for embedding in EMBEDDINGS:
        _complete_text_encoder(pipeline / embedding.folder, embedding)
    for tokenizer in TOKENIZERS:
        _copy_tokenizer(comfy_source / tokenizer.comfy_folder, pipeline / tokenizer.folder, tokenizer.max_length)
    for source, link in FLUX_TINY.links:
        (target / link).parent.mkdir(parents=True, exist_ok=True)
        os.link(target / source, target / link)


def _complete_text_encoder(folder: Path, embedding: Embedding) -> None:
    layers = folder / "layers.safetensors"
    info = TensorInfo("BF16", (embedding.rows, embedding.columns))
    write_with_tensor(layers, folder / "model.safetensors", embedding.tensor, info, checked_bytes(embedding))
    layers.unlink()


def checked_bytes(embedding: Embedding) -> bytes:
    """The embedding as bf16. Raises InstallError `flux_tiny_mismatch`."""
    data = to_bf16(draw(embedding)).tobytes()
    if hashlib.sha256(data).hexdigest() != embedding.sha256:
        raise InstallError(
            f"The embedding of {embedding.folder} does not come out as the one that flux-tiny was trained with.",
            code="flux_tiny_mismatch",
            hint="This machine's numpy computes differently; please report its version and the processor.",
        )
    return data


def draw(embedding: Embedding) -> NDArray[np.float32]:
    """`torch.randn` on a CPU: a Mersenne twister, 24 bits a draw, Box-Muller over blocks of 16 (8 radii, 8 angles)."""
    generator = np.random.RandomState(embedding.seed)
    count = embedding.rows * embedding.columns
    draws = generator.randint(0, 2**32, embedding.skipped_draws + count, dtype=np.uint32)[embedding.skipped_draws :]
    uniform = ((draws & 0xFFFFFF) / 2.0**24).reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[:, 0])), 2 * np.pi * uniform[:, 1]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normal.reshape(embedding.rows, embedding.columns).astype(np.float32) * np.float32(embedding.scale)


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper half of each float, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _copy_tokenizer(source: Path, target: Path, max_length: int) -> None:
    shutil.copytree(source, target)
    config = target / "tokenizer_config.json"
    settings = json.loads(config.read_text()) | {"model_max_length": max_length}
    config.write_text(json.dumps(settings, indent=2) + "\n")
