"""The safetensors format, as much as is needed without torch: the one reader of it, for LoRAs and base models alike.

A file is a little-endian u64 N, N bytes of JSON `{name: {dtype, shape, data_offsets}}` padded with spaces, then the
tensors' bytes without holes. Source: the format's description in the safetensors repository.
"""

import json
import math
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from api.errors import InputError

PREFIX_BYTES = 8
MAX_HEADER_BYTES = 32 * 2**20
"""A LoRA of a thousand modules has a header of half a megabyte; the format's own limit is 100 MB."""
_METADATA = "__metadata__"

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip

# A number is NaN or infinite when all bits of its exponent are set; E4M3 has no infinity and NaN has all bits set.
_NOT_FINITE: dict[str, tuple[DTypeLike, int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F8_E4M3": (np.uint8, 0x7F),
    "F8_E5M2": (np.uint8, 0x7C),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's place; `start` and `end` count from the first byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    tensors: dict[str, Tensor]
    """By name, in the order of their bytes."""
    metadata: dict[str, str]


def header_bytes(prefix: bytes, file_bytes: int) -> int:
    """How long the JSON is, from the file's first 8 bytes. Raises InputError `lora_invalid`."""
    if len(prefix) < PREFIX_BYTES:
        raise invalid("the file has no header")
    (length,) = struct.unpack("<Q", prefix)
    if length > min(MAX_HEADER_BYTES, file_bytes - PREFIX_BYTES):
        raise invalid("its header is longer than the file or the limit")
    return int(length)


def parse_header(text: bytes, data_bytes: int) -> Header:
    """The tensors of a file with `data_bytes` after its header, every byte accounted for.

    Raises InputError `lora_invalid`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise invalid("its header is not JSON") from exc
    if not isinstance(value, dict):
        raise invalid("its header is not an object")
    metadata = value.pop(_METADATA, {})
    if not isinstance(metadata, dict):
        raise invalid("its metadata is not an object")
    tensors = sorted(((name, _tensor(name, entry)) for name, entry in value.items()), key=lambda item: item[1].start)
    end = 0
    for name, tensor in tensors:
        if tensor.start != end:
            raise invalid(f"tensor {name} does not begin where the one before ends")
        end = tensor.end
    if end != data_bytes:
        raise invalid(f"it holds {data_bytes} bytes of tensors where its header promises {end}")
    return Header(dict(tensors), {str(key): str(text) for key, text in metadata.items()})


def read_header(file: BinaryIO) -> tuple[Header, int]:
    """The header of an open file, and the offset of its first tensor. Raises InputError `lora_invalid`."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = header_bytes(file.read(PREFIX_BYTES), size)
    start = PREFIX_BYTES + length
    return parse_header(file.read(length), size - start), start


def build_header(tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]) -> bytes:
    """The beginning of a file with these tensors (dtype, shape) in this order: the same bytes for the same input."""
    value: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name, (dtype, shape) in tensors.items():
        end = start + ITEM_BYTES[dtype] * math.prod(shape)
        value[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(value, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text


def is_finite(dtype: str, data: bytes) -> bool:
    """Whether no number in `data`, which holds whole numbers of type `dtype`, is NaN or infinite."""
    if dtype not in _NOT_FINITE:
        return True
    unsigned, mask = _NOT_FINITE[dtype]
    numbers = np.frombuffer(data, dtype=unsigned)
    bits = numbers.dtype.type(mask)
    return not bool(np.any((numbers & bits) == bits))


def invalid(reason: str, *, code: str = "lora_invalid") -> InputError:
    return InputError(
        f"This is not a usable LoRA file: {reason}.",
        code=code,
        hint="Give a LoRA in the safetensors format, whole.",
    )


def _tensor(name: str, entry: Any) -> Tensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        item_bytes = ITEM_BYTES[dtype]
    except (KeyError, TypeError, ValueError) as exc:
        raise invalid(f"tensor {name} is not described as one") from exc
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise invalid(f"tensor {name} is not described as one")
    if end - start != item_bytes * math.prod(shape):
        raise invalid(f"the size of tensor {name} does not fit its shape")
    return Tensor(dtype, shape, start, end)
