"""Multipart uploads, streamed to files: memory stays flat however much is sent.

Starlette's own `form()` is not used: it holds every file open, keeps small ones in memory, and stops at 1,000.
"""

import asyncio
import contextlib
import errno
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from api.domain.upload import UploadLimits
from api.errors import InputError, StorageError
from api.routes.form_reader import FormReader, ReceivedFile, upload_too_large

_BATCH_BYTES = 1024 * 1024
"""Written in one go off the event loop: a hop to a thread for each 64 KB that arrives costs more than the write."""


@dataclass(frozen=True, slots=True)
class Received:
    """A form whose files are on disk."""

    fields: dict[str, list[str]]
    files: list[ReceivedFile]


async def receive_multipart(
    request: Request, into: Path, limits: UploadLimits, *, file_setting: str = "MASUKA_MAX_FILE_MB"
) -> Received:
    """Stream a multipart/form-data body: files to the new folder `into`, named by number, fields to memory.

    A single file may have `limits.file_bytes`, which `file_setting` sets, a .zip all of `limits.total_bytes`. On any
    error, a client that goes away, or a cancellation, `into` is removed.

    Raises InputError (`multipart_invalid`, `upload_incomplete`), TooLargeError naming the limit's setting, or
    StorageError when the disk cannot take the files.
    """
    form = FormReader(_boundary(request), into, limits, file_setting)
    _check_announced_size(request, limits)
    sink = _Sink(into)
    try:
        async for chunk in request.stream():
            form.feed(chunk)
            if form.pending_bytes >= _BATCH_BYTES:
                await asyncio.to_thread(sink.write, form.take_writes())
        if not form.complete:
            raise _incomplete()
        await asyncio.to_thread(sink.write, form.take_writes())
        await asyncio.to_thread(sink.close)
    except BaseException as exc:
        await asyncio.shield(asyncio.to_thread(sink.discard))
        if isinstance(exc, ClientDisconnect):
            raise _incomplete() from exc
        if isinstance(exc, OSError):
            raise _not_stored(exc) from exc
        raise
    return Received(form.fields, form.files)


def _boundary(request: Request) -> bytes:
    content_type, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if content_type != b"multipart/form-data" or not boundary:
        raise InputError(
            "The body must be multipart/form-data with a boundary.",
            code="multipart_invalid",
            value=request.headers.get("content-type"),
            hint="Send the files as a form, as `curl -F files=@photo.jpg` does.",
        )
    return boundary


def _check_announced_size(request: Request, limits: UploadLimits) -> None:
    """Refuse at once what says that it is too large; what does not say so is counted as it arrives."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.total_bytes:
        raise upload_too_large(limits)


def _incomplete() -> InputError:
    return InputError("The upload was cut off before its end.", code="upload_incomplete", hint="Send it again.")


def _not_stored(exc: OSError) -> StorageError:
    full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
    return StorageError(
        f"The upload could not be stored: {exc.strerror}.",
        code="disk_full" if full else None,
        hint="Free disk space and send it again." if full else None,
    )


class _Sink:
    """Writes files one after the other, one open at a time. Its methods block, and may be called from any thread.

    The lock is for a cancelled upload, whose last write may still be under way when all is to be removed.
    """

    def __init__(self, into: Path) -> None:
        self._into = into
        self._lock = threading.Lock()
        self._made = False
        self._discarded = False
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def write(self, writes: Sequence[tuple[Path, bytes]]) -> None:
        with self._lock:
            if self._discarded:
                return
            if not self._made:
                self._into.mkdir(parents=True)
                self._made = True
            for path, data in writes:
                self._file_at(path).write(data)

    def _file_at(self, path: Path) -> BinaryIO:
        if self._file is None or path != self._path:
            self._close()
            self._path, self._file = path, path.open("xb")
        return self._file

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Remove all that was written; later writes do nothing."""
        with self._lock:
            self._discarded = True
            with contextlib.suppress(OSError):  # a full disk fails the last flush; these bytes are going anyway
                self._close()
            if self._made:
                shutil.rmtree(self._into)
