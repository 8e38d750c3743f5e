"""Downloads files of Hugging Face repositories: resumed where they were cut off, checked by size and hash.

huggingface_hub resumes within one call only (each download gets a temporary file of its own, removed on failure), which
is not enough for 24 GB on a bad line. So its metadata, authentication, session and errors are used, and the part file
is ours: `<name>.part`, with the ETag that it belongs to in `<name>.part.etag`.
"""

import errno
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.errors import FileMetadataError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from api.engines.catalogue import ModelFile
from api.errors import InstallError

SHA256 = re.compile(r"[0-9a-f]{64}")
READ_TIMEOUT_SECONDS = 60
TRIES_WITHOUT_PROGRESS = 5
RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
PARTIAL_CONTENT = 206
HUB = "https://huggingface.co"

Received = Callable[[int], None]
"""Told how many more bytes are here; a negative number takes back what turned out useless."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the hub says of a file."""

    size_bytes: int
    etag: str
    """The SHA-256 of a large file, something else for a small one."""


@dataclass(frozen=True, slots=True)
class Hub:
    token: str = ""
    endpoint: str | None = None
    """Another address than the public hub's, or HF_ENDPOINT's."""
    pause_seconds: float = 2.0
    """Between two tries of a download that was cut off."""

    def ask(self, file: ModelFile) -> Told:
        """Raises InstallError as `download` does."""
        try:
            told = get_hf_file_metadata(self._url(file), token=self.token or False, endpoint=self.endpoint)
        except (HfHubHTTPError, FileMetadataError, httpx2.HTTPError, OSError) as exc:
            raise translated(exc, file) from exc
        if told.size is None or told.etag is None:
            raise translated(FileMetadataError("the hub does not say its size and ETag"), file)
        return Told(told.size, told.etag)

    def download(self, file: ModelFile, told: Told, target: Path, received: Received) -> None:
        """Make `target` the file; it is there only when it is whole and right. Does nothing when it is there.

        Raises InstallError `hf_token_invalid`, `model_gated`, `disk_full` or `download_failed`.
        """
        if target.is_file() and target.stat().st_size == told.size_bytes:
            received(target.stat().st_size)
            return
        try:
            part = _part_of(target, told.etag)
            received(part.stat().st_size)
            self._receive(file, part, told.size_bytes, received)
            _check(part, told, file)
            part.replace(target)
            _etag_file(part).unlink()
        except (HfHubHTTPError, httpx2.HTTPError, OSError) as exc:
            raise translated(exc, file) from exc

    def _receive(self, file: ModelFile, part: Path, size_bytes: int, received: Received) -> None:
        """Append to `part` until it has `size_bytes`, over as many connections as it takes."""
        tries, have = TRIES_WITHOUT_PROGRESS, part.stat().st_size
        while have < size_bytes:
            cut = self._append_until_cut(file, part, received)
            before, have = have, part.stat().st_size
            if have >= size_bytes:
                return
            tries = TRIES_WITHOUT_PROGRESS if have > before else tries - 1
            if tries == 0:
                if cut:
                    raise cut
                return  # the server ends early, again and again, and says nothing: the size check will
            time.sleep(self.pause_seconds)

    def _append_until_cut(
        self, file: ModelFile, part: Path, received: Received
    ) -> httpx2.TransportError | HfHubHTTPError | None:
        """What cut it off, if it is something that may pass; raises what will not."""
        try:
            self._append(file, part, received)
        except (httpx2.TransportError, HfHubHTTPError) as exc:
            if isinstance(exc, HfHubHTTPError) and exc.response.status_code not in RETRY_STATUSES:
                raise
            return exc
        return None

    def _append(self, file: ModelFile, part: Path, received: Received) -> None:
        have = part.stat().st_size
        # Without `identity` small files come compressed, and a range of a compressed file is of no use.
        headers = build_hf_headers(token=self.token or False) | {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with get_session().stream(
            "GET", self._url(file), headers=headers, follow_redirects=True, timeout=READ_TIMEOUT_SECONDS
        ) as response:
            hf_raise_for_status(response)
            if response.status_code != PARTIAL_CONTENT:
                received(-have)
                have = 0
            with part.open("r+b") as output:
                output.truncate(have)
                output.seek(have)
                for block in response.iter_bytes():
                    output.write(block)
                    received(len(block))

    def _url(self, file: ModelFile) -> str:
        return hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=self.endpoint)


def translated(exc: Exception, file: ModelFile) -> InstallError:
    """What huggingface_hub, the network or the disk said, as one of our errors."""
    page = f"{HUB}/{file.repo}"
    match exc:
        case GatedRepoError():
            code, hint = "model_gated", f"Open {page}, accept its licence with the account of HF_TOKEN, run it again."
            detail = f"The licence of {file.repo} is not accepted for this token."
        case RepositoryNotFoundError() | HfHubHTTPError(response=httpx2.Response(status_code=401 | 403)):
            code, hint = "hf_token_invalid", "Make a token with read access at https://huggingface.co/settings/tokens."
            detail = f"The hub does not let this HF_TOKEN read {file.repo}."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            code, hint = "disk_full", "Make room and run it again; it goes on where it stopped."
            detail = f"The disk is full while {file.path} is downloaded."
        case _:
            code, hint = "download_failed", "Check the network and run it again; it goes on where it stopped."
            detail = f"{file.repo}/{file.path} could not be downloaded: {exc or type(exc).__name__}"
    return InstallError(detail, code=code, value=f"{file.repo}/{file.path}", hint=hint)


def part_file(target: Path) -> Path:
    """Where `target` grows until it is whole."""
    return target.with_name(f"{target.name}.part")


def _part_of(target: Path, etag: str) -> Path:
    """The part file; emptied when what it holds is of another version."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_file(target)
    if not part.is_file() or not _etag_file(part).is_file() or _etag_file(part).read_text() != etag:
        part.write_bytes(b"")
        _etag_file(part).write_text(etag)
    return part


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _check(part: Path, told: Told, file: ModelFile) -> None:
    """Size always; SHA-256 where the ETag is one, as it is for every large file."""
    problem = ""
    if part.stat().st_size != told.size_bytes:
        problem = f"it has {part.stat().st_size} bytes instead of {told.size_bytes}"
    elif SHA256.fullmatch(told.etag) and _sha256(part) != told.etag:
        problem = "its SHA-256 is wrong"
    if problem:
        part.unlink()
        raise InstallError(
            f"{file.repo}/{file.path} arrived damaged: {problem}.",
            code="download_failed",
            value=f"{file.repo}/{file.path}",
            hint="Run it again; this file starts anew.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
