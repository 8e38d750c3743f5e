"""The weights of base models on disk: shapes, wholeness, one tensor more."""

from dataclasses import dataclass
from pathlib import Path

from api.domain.tensor_file import build_header, read_header
from api.errors import EngineError, InputError


@dataclass(frozen=True, slots=True)
class TensorInfo:
    dtype: str
    shape: tuple[int, ...]


def read_shapes(path: Path) -> dict[str, TensorInfo]:
    """Name -> type and shape of every tensor; reads the header alone.

    Raises EngineError `weights_unreadable` for another format or a file that was cut off, FileNotFoundError.
    """
    try:
        with path.open("rb") as file:
            header, _ = read_header(file)
    except InputError as exc:
        raise _unreadable(path) from exc
    return {name: TensorInfo(tensor.dtype, tensor.shape) for name, tensor in header.tensors.items()}


def is_complete(path: Path) -> bool:
    """Whether the file is there, and as long as its header says."""
    try:
        read_shapes(path)
    except (EngineError, FileNotFoundError):
        return False
    return True


def write_with_tensor(source: Path, target: Path, name: str, info: TensorInfo, data: bytes) -> None:
    """Write `source` again as `target`, with one tensor more at its end."""
    with source.open("rb") as file:
        header, start = read_header(file)
        file.seek(start)
        old = file.read()
    layout = {tensor: (found.dtype, found.shape) for tensor, found in header.tensors.items()}
    target.write_bytes(build_header(layout | {name: (info.dtype, info.shape)}, header.metadata) + old + data)


def _unreadable(path: Path) -> EngineError:
    return EngineError(
        f"{path.name} is not a safetensors file, or is cut off.",
        code="weights_unreadable",
        value=str(path),
        hint="Install the base model again.",
    )
