"""LoRA files on disk: read with suspicion, checked to the last number, written with their alpha."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from api.domain.lora_file import LoraModule, alpha_key, lora_modules
from api.domain.tensor_file import (
    ITEM_BYTES,
    Tensor,
    build_header,
    invalid,
    is_finite,
    read_header,
)

CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA that was read to the end: whole, with modules, every number finite."""

    path: Path
    modules: tuple[LoraModule, ...]
    tensors: int
    metadata: dict[str, str]

    @property
    def rank(self) -> int:
        """The largest rank of its modules; they are nearly always all the same."""
        return max(module.rank for module in self.modules)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    path: Path
    sha256: str
    size_bytes: int


def check_lora(path: Path) -> LoraFile:
    """Read the whole file, with memory for one chunk.

    Raises InputError `lora_invalid` (not safetensors, cut off, no LoRA) or `lora_not_finite`, FileNotFoundError.
    """
    with path.open("rb") as file:
        header, start = read_header(file)
        modules = lora_modules(header)
        for name, tensor in header.tensors.items():
            for chunk in _chunks(file, start, tensor):
                if not is_finite(tensor.dtype, chunk):
                    raise invalid(f"tensor {name} holds NaN or infinity", code="lora_not_finite")
    return LoraFile(path, modules, len(header.tensors), header.metadata)


def write_with_alpha(source: Path, target: Path, alpha: float, metadata: dict[str, str]) -> WrittenFile:
    """Copy a LoRA to `target` with `<module>.alpha` for every module, and `metadata` added to its own.

    The same source, alpha and metadata give the same bytes. `target` appears whole or not at all; it must not exist
    for long under a name that ComfyUI has already loaded (`content_name`).
    Raises InputError `lora_invalid`, FileNotFoundError.
    """
    partial = target.with_name(f".{target.name}.partial")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as old, partial.open("wb") as new:
            for chunk in _with_alpha(old, alpha, metadata):
                digest.update(chunk)
                new.write(chunk)
            new.flush()
            os.fsync(new.fileno())
        size = partial.stat().st_size
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return WrittenFile(target, digest.hexdigest(), size)


def single_file_targets(path: Path) -> dict[str, tuple[int, int]]:
    """Every linear layer of the single file that ComfyUI reads, as `diffusion_model.<name>`: (out, in).

    Reads the header alone. With the diffusers names of the same model, LoRAs of either naming find their place.
    Raises InputError `lora_invalid` for an unreadable file, FileNotFoundError.
    """
    with path.open("rb") as file:
        header, _ = read_header(file)
    return {
        "diffusion_model." + re.sub(r"^(model\.)?diffusion_model\.|\.weight$", "", key): (
            tensor.shape[0],
            tensor.shape[1],
        )
        for key, tensor in header.tensors.items()
        if key.endswith(".weight") and len(tensor.shape) == 2
    }


def _with_alpha(old: BinaryIO, alpha: float, metadata: dict[str, str]) -> Iterator[bytes]:
    """The bytes of the new file. The alphas come first, where a 4-byte number is aligned."""
    header, start = read_header(old)
    alphas = sorted(alpha_key(module) for module in lora_modules(header))
    kept = {name: tensor for name, tensor in header.tensors.items() if not name.endswith(".alpha")}
    layout: dict[str, tuple[str, tuple[int, ...]]] = dict.fromkeys(alphas, ("F32", ()))
    layout |= {name: (tensor.dtype, tensor.shape) for name, tensor in kept.items()}
    yield build_header(layout, header.metadata | metadata)
    yield np.full(len(alphas), alpha, dtype="<f4").tobytes()
    for tensor in kept.values():
        yield from _chunks(old, start, tensor)


def _chunks(file: BinaryIO, start: int, tensor: Tensor) -> Iterator[bytes]:
    """The tensor's bytes in pieces of whole numbers."""
    step = CHUNK_BYTES // ITEM_BYTES[tensor.dtype] * ITEM_BYTES[tensor.dtype]
    file.seek(start + tensor.start)
    for position in range(tensor.start, tensor.end, step):
        yield file.read(min(step, tensor.end - position))
