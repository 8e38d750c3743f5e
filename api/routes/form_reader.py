"""The pure half of a multipart upload: bytes in, fields, files and the writes that store them out."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from api.domain.upload import ARCHIVE_SUFFIX, IncomingFile, UploadLimits, shown
from api.errors import InputError, TooLargeError

FIELD_BYTES = 64 * 1024
FIELD_COUNT = 64
PART_HEADER_BYTES = 8 * 1024

# A quoted value escapes only the quote, as curl does; browsers write a quote as %22 and a backslash as it is.
_PARAMETER = re.compile(r';\s*([\w-]+\*?)\s*=\s*(?:"((?:\\"|[^"])*)"|([^;]*))')


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedFile(IncomingFile):
    field: str
    """Name of the form field it came in."""


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    header_bytes: int = 0
    name: str = ""
    filename: str | None = None
    """None for a plain field; empty for a file input that its user left empty."""
    path: Path | None = None
    value: bytearray = field(default_factory=bytearray)
    size: int = 0


class FormReader:
    """Reads one multipart/form-data body, fed to it in pieces of any size; no I/O, one piece in memory.

    Every method that is fed raises InputError (`multipart_invalid`) or TooLargeError naming the limit's setting.
    """

    def __init__(
        self, boundary: bytes, into: Path, limits: UploadLimits, file_setting: str = "MASUKA_MAX_FILE_MB"
    ) -> None:
        self.fields: dict[str, list[str]] = {}
        self.files: list[ReceivedFile] = []
        self.complete = False
        """Whether the closing boundary was seen: without it something is missing."""
        self.pending_bytes = 0
        """Size of the writes not yet taken."""
        self._into = into
        self._limits = limits
        self._file_setting = file_setting
        self._total_bytes = 0
        self._field_count = 0
        self._writes: list[tuple[Path, bytes]] = []
        self._part = _Part()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_size=sys.maxsize,  # counted here, over all headers of a part
            )
        except FormParserError as exc:
            raise _malformed(str(exc)) from exc

    def feed(self, data: bytes) -> None:
        self._total_bytes += len(data)
        if self._total_bytes > self._limits.total_bytes:
            raise upload_too_large(self._limits)
        try:
            self._parser.write(data)
        except FormParserError as exc:
            raise _malformed(str(exc)) from exc

    def take_writes(self) -> list[tuple[Path, bytes]]:
        """The writes since the last call, in order; all of one file before the first of the next."""
        writes, self._writes = self._writes, []
        self.pending_bytes = 0
        return writes

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._part.header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._part.header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._part.header_bytes += size
        if self._part.header_bytes > PART_HEADER_BYTES:
            raise _over("part_header_too_large", f"The headers of a part have more than {PART_HEADER_BYTES} bytes.")

    def _on_header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _on_headers_finished(self) -> None:
        part = self._part
        part.name, part.filename = parse_disposition(part.headers.get(b"content-disposition", b""))
        if part.filename:
            if len(self.files) >= self._limits.files:
                raise _over("too_many_files", f"More than {self._limits.files} files.", "MASUKA_MAX_FILES")
            part.path = self._into / f"{len(self.files):05d}"
            self._writes.append((part.path, b""))  # so that an empty file exists, too
        else:  # a file input left empty counts here, so that nothing is free
            self._field_count += 1
            if self._field_count > FIELD_COUNT:
                raise _over("too_many_fields", f"More than {FIELD_COUNT} form fields.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size += end - start
        if part.path is not None:
            self._check_file_size(part)
            self._writes.append((part.path, data[start:end]))
            self.pending_bytes += end - start
        elif part.filename is not None:
            raise _malformed("a file without a name")
        elif part.size > FIELD_BYTES:
            raise _over("field_too_large", f"The form field {shown(part.name)} has more than {FIELD_BYTES} bytes.")
        else:
            part.value += data[start:end]

    def _check_file_size(self, part: _Part) -> None:
        name = part.filename or ""
        if part.size > self._limits.file_bytes and not name.lower().endswith(ARCHIVE_SUFFIX):
            raise _over(
                "file_too_large",
                f"The file {shown(name)} has more than {self._limits.file_bytes:,} bytes.",
                self._file_setting,
            )

    def _on_part_end(self) -> None:
        part = self._part
        if part.path is not None:
            self.files.append(
                ReceivedFile(filename=part.filename or "", path=part.path, size=part.size, field=part.name)
            )
        elif part.filename is None:
            try:
                value = part.value.decode()
            except UnicodeDecodeError as exc:
                raise _malformed(f"the form field {shown(part.name)} is not UTF-8") from exc
            self.fields.setdefault(part.name, []).append(value)

    def _on_end(self) -> None:
        self.complete = True


def parse_disposition(header: bytes) -> tuple[str, str | None]:
    """Field name and file name (None when it has none) in a part's Content-Disposition header.

    Names are UTF-8, else Latin-1. `filename*` (RFC 5987) goes before `filename`: RFC 7578 forbids it, and some
    clients send it with the only correct name.
    """
    text = _decoded(header)
    if text.partition(";")[0].strip().lower() != "form-data":
        raise _malformed("a part without a form-data Content-Disposition")
    options: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        key, quoted, bare = match.groups()
        options[key.lower()] = bare.strip() if quoted is None else quoted.replace('\\"', '"')
    if "name" not in options:
        raise _malformed("a part without a name")
    if "filename*" in options:
        charset, _, rest = options["filename*"].partition("'")
        encoding = "latin-1" if charset.lower() == "iso-8859-1" else "utf-8"
        return options["name"], unquote(rest.partition("'")[2], encoding)
    return options["name"], options.get("filename")


def _decoded(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def upload_too_large(limits: UploadLimits) -> TooLargeError:
    return _over("upload_too_large", f"The upload has more than {limits.total_bytes:,} bytes.", "MASUKA_MAX_UPLOAD_MB")


def _over(code: str, detail: str, setting: str | None = None) -> TooLargeError:
    hint = f"Send less at once, or raise {setting}." if setting else None
    return TooLargeError(detail, code=code, hint=hint)


def _malformed(what: str) -> InputError:
    return InputError(f"The multipart body is malformed: {what}.", code="multipart_invalid")
