"""Small LoRA files, made as the format's description says and not by the code under test."""

import json
import struct
from pathlib import Path

import numpy as np

Tensors = dict[str, tuple[str, list[int], bytes]]


def f32(*shape: int, fill: float = 0.5) -> tuple[str, list[int], bytes]:
    return "F32", list(shape), np.full(shape, fill, dtype="<f4").tobytes()


def bf16(*shape: int, bits: int = 0x3F00) -> tuple[str, list[int], bytes]:
    """Numbers by their bits: 0x3F00 is 0.5, 0x7FC0 NaN, 0x7F80 infinity."""
    return "BF16", list(shape), np.full(shape, bits, dtype="<u2").tobytes()


def file_bytes(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def lora(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    path.write_bytes(file_bytes(tensors, metadata))
    return path


def pair(name: str, *, rank: int = 4, out: int = 8, inner: int = 6) -> Tensors:
    """One module in PEFT's layout."""
    return {f"{name}.lora_A.weight": bf16(rank, inner), f"{name}.lora_B.weight": bf16(out, rank)}
