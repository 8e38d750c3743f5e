"""A multipart form that is read from disk while it is sent."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


class Form:
    """Fields, then files, each under the name `files`."""

    def __init__(self, fields: Mapping[str, str], files: Sequence[Path]) -> None:
        self._boundary = secrets.token_hex(16)
        self._files = files
        self._fields = b"".join(
            self._head(f'name="{name}"') + value.encode() + b"\r\n" for name, value in fields.items()
        )

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def length(self) -> int:
        """In bytes."""
        files = sum(len(self._file_head(path)) + path.stat().st_size + 2 for path in self._files)
        return len(self._fields) + files + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        yield self._fields
        for path in self._files:
            yield self._file_head(path)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
            yield b"\r\n"
        yield self._end

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def _file_head(self, path: Path) -> bytes:
        name = path.name.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        return self._head(f'name="files"; filename="{name}"')

    def _head(self, disposition: str) -> bytes:
        return f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
