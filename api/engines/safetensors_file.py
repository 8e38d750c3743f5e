"""The safetensors format, as much as is needed without torch: header, sizes, one tensor more.

A file is a little-endian u64 N, N bytes of JSON `{name: {dtype, shape, data_offsets}}`, then the tensors' bytes.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.errors import EngineError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    dtype: str
    shape: tuple[int, ...]


def read_shapes(path: Path) -> dict[str, TensorInfo]:
    """Name -> type and shape of every tensor; reads the header alone. Raises EngineError `weights_unreadable`."""
    header, _ = _read_header(path)
    try:
        return {
            name: TensorInfo(entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
            if name != METADATA
        }
    except (KeyError, TypeError) as exc:
        raise _unreadable(path) from exc


def is_complete(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    try:
        header, start = _read_header(path)
    except (EngineError, FileNotFoundError):
        return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != METADATA]
    return path.stat().st_size == start + max(ends, default=0)


def write_with_tensor(source: Path, target: Path, name: str, info: TensorInfo, data: bytes) -> None:
    """Write `source` again as `target`, with one tensor more at its end."""
    header, start = _read_header(source)
    old = source.read_bytes()[start:]
    entry = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [len(old), len(old) + len(data)]}
    text = json.dumps(header | {name: entry}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    target.write_bytes(struct.pack("<Q", len(text)) + text + old + data)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and the offset of the first tensor's bytes."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, path.stat().st_size):
                raise _unreadable(path)
            header = json.loads(file.read(length))
    except (struct.error, ValueError) as exc:
        raise _unreadable(path) from exc
    if not isinstance(header, dict):
        raise _unreadable(path)
    return header, 8 + length


def _unreadable(path: Path) -> EngineError:
    return EngineError(
        f"{path.name} is not a safetensors file, or is cut off.",
        code="weights_unreadable",
        value=str(path),
        hint="Install the base model again.",
    )
