"""A zip of pictures and captions, unpacked file by file to safe names within limits."""

import io
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from api.domain.intake import ReportEntry
from api.domain.upload import FileKind, IncomingFile, Refusal, UploadLimits, file_kind
from api.errors import InputError, TooLargeError

_DIRECTORY_BYTES_PER_FILE = 1024
_CHUNK_BYTES = 1024 * 1024
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED_FLAG, _UTF8_FLAG = 0x1, 0x800


@dataclass(frozen=True, slots=True)
class Unpacked:
    files: list[IncomingFile]
    refused: list[ReportEntry]


def unpack(archive: Path, limits: UploadLimits, folder: Path) -> Unpacked:
    """Write the pictures and captions of the zip into `folder`, named by number. Blocks.

    All that the zip's table of contents declares is judged before a byte is inflated, and no entry can inflate to
    more than it declared. Entries that cannot be taken are reported, clutter is not.

    Raises InputError (`zip_invalid`) or TooLargeError (`zip_too_many_files`, `zip_too_large`) for the whole.
    """
    with _BoundedFile(archive, limits) as file:
        try:
            with zipfile.ZipFile(file) as opened:
                return _unpack(opened, limits, folder)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OverflowError) as exc:
            raise InputError(
                f"The zip cannot be read: {exc}", code="zip_invalid", hint="Make the zip anew and send it again."
            ) from exc


class _BoundedFile(io.FileIO):
    """A zip that cannot lead `zipfile` astray by the sizes and offsets that it claims.

    `zipfile` reads the table of contents in one go, however long it says it is, and seeks to wherever an entry is
    said to lie.
    """

    def __init__(self, path: Path, limits: UploadLimits) -> None:
        super().__init__(path)
        self._limits = limits
        self._read_limit = max(2 * _CHUNK_BYTES, limits.files * _DIRECTORY_BYTES_PER_FILE)
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._read_limit:
            raise _too_many_files(self._limits)
        return super().read(size) or b""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and not 0 <= offset <= self._size:
            raise zipfile.BadZipFile("an offset lies outside the file")
        return super().seek(offset, whence)


def _too_many_files(limits: UploadLimits) -> TooLargeError:
    return TooLargeError(
        f"The zip holds more than {limits.files} files.",
        code="zip_too_many_files",
        hint="Send several smaller zips, or raise MASUKA_MAX_FILES.",
    )


def _unpack(opened: zipfile.ZipFile, limits: UploadLimits, folder: Path) -> Unpacked:
    wanted: list[tuple[str, zipfile.ZipInfo]] = []
    refused: list[ReportEntry] = []
    for info in opened.infolist():
        name = _name(info)
        try:
            if not name.endswith(("/", "\\")) and _is_wanted(name, info, limits):
                wanted.append((name, info))
        except InputError as exc:
            refused.append(ReportEntry.refused(name, exc))
    if len(wanted) + len(refused) > limits.files:
        raise _too_many_files(limits)
    _check_declared_total(wanted, limits)
    files: list[IncomingFile] = []
    for number, (name, info) in enumerate(wanted):
        path = folder / f"{number:05d}"
        try:
            _inflate(opened, info, path)
        except InputError as exc:
            refused.append(ReportEntry.refused(name, exc))
        else:
            files.append(IncomingFile(name, path, info.file_size))
    return Unpacked(files, refused)


def _name(info: zipfile.ZipInfo) -> str:
    """The entry's name as meant: macOS writes UTF-8 without saying so, and `zipfile` reads that as code page 437."""
    name = info.orig_filename
    if info.flag_bits & _UTF8_FLAG:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _is_wanted(name: str, info: zipfile.ZipInfo, limits: UploadLimits) -> bool:
    """Whether to unpack the entry; False for clutter. Raises InputError with the reason to refuse it."""
    kind = file_kind(name)
    if kind is FileKind.CLUTTER:
        return False
    if kind is FileKind.ARCHIVE:
        raise InputError("A zip inside a zip is not opened.", code=Refusal.UNSUPPORTED_TYPE)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InputError("The entry is a link, not a file.", code=Refusal.SYMLINK)
    if info.flag_bits & _ENCRYPTED_FLAG:
        raise InputError("The entry is encrypted.", code=Refusal.ENCRYPTED, hint="Make the zip without a password.")
    if info.compress_type not in _METHODS:  # the others cannot be inflated in bounded memory
        raise InputError(
            "The entry is compressed in an unusual way.", code=Refusal.CORRUPT_ENTRY, hint="Make the zip with Deflate."
        )
    if info.file_size > limits.file_bytes:
        raise InputError(
            f"The file has {info.file_size:,} bytes; at most {limits.file_bytes:,} are taken.",
            code=Refusal.FILE_TOO_LARGE,
            hint="Make it smaller, or raise MASUKA_MAX_FILE_MB.",
        )
    return True


def _check_declared_total(wanted: list[tuple[str, zipfile.ZipInfo]], limits: UploadLimits) -> None:
    total = sum(info.file_size for _, info in wanted)
    if total > limits.total_bytes:
        raise TooLargeError(
            f"The zip unpacks to {total:,} bytes; at most {limits.total_bytes:,} are taken.",
            code="zip_too_large",
            value=total,
            hint="Send several smaller zips, or raise MASUKA_MAX_UPLOAD_MB.",
        )


def _inflate(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """`zipfile` yields at most the declared size, and checks the CRC when it sees the end; it may miss a short one."""
    try:
        with opened.open(info) as source, path.open("xb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                target.write(chunk)
            if target.tell() != info.file_size:
                raise zipfile.BadZipFile(f"{target.tell()} of {info.file_size} bytes")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        path.unlink(missing_ok=True)
        raise InputError(f"The entry cannot be unpacked: {exc}", code=Refusal.CORRUPT_ENTRY) from exc
