"""Brings one file from the web to the disk: resumed where it was cut off, never larger than it may be."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx
import structlog

from api.domain.fetching import TRIES_WITHOUT_PROGRESS, Anew, Goes, Later, Whole, judge, pause_seconds
from api.domain.web_address import shown_url
from api.errors import JobError, RetryableError
from api.fetch.part import Part
from api.fetch.web import Answer, Secret, Web
from api.see_through import see_through

log = structlog.get_logger(__name__)

BATCH_BYTES = 1 << 20
BYTES_PER_MB = 1024 * 1024


class Told(Protocol):
    """Hears how it goes; what it raises ends the download."""

    async def answered(self, answer: Answer, total: int | None) -> None:
        """A server sends, and the whole file has `total` bytes, if that is known."""
        ...

    async def received(self, have: int, total: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    url: str
    limit_bytes: int
    limit_setting: str
    """Named in the error of a file that is larger."""
    secret: Secret | None = field(default=None, repr=False)


async def download(web: Web, wanted: Wanted, folder: Path, told: Told) -> Path:
    """The whole file, in `folder`, which is this download's alone, and where an earlier try may have begun.

    Raises InputError and JobError as `Web.get` and `judge` do, JobError `file_too_large`, and RetryableError
    `download_failed` when it makes no progress any more; OSError.
    """
    part, failures = Part(folder), 0
    while True:
        before = await asyncio.to_thread(part.size)
        cut = await _append(web, wanted, part, told)
        if cut is None:
            await asyncio.to_thread(part.finish)
            return part.path
        failures = 1 if await asyncio.to_thread(part.size) > before else failures + 1
        if failures >= TRIES_WITHOUT_PROGRESS:
            raise RetryableError(
                f"{shown_url(wanted.url)} could not be downloaded: {cut}.",
                code="download_failed",
                value=shown_url(wanted.url),
                hint="Check the address and the network, then retry the job: it goes on where it stopped.",
            )
        log.info("download_cut", url=shown_url(wanted.url), reason=cut)
        await asyncio.sleep(pause_seconds(web.pause_seconds, failures))


async def _append(web: Web, wanted: Wanted, part: Part, told: Told) -> str | None:
    """Over one connection: None when the file is whole, else what has cut it off."""
    etag = await asyncio.to_thread(part.etag)
    have = await asyncio.to_thread(part.size) if etag else 0
    headers = {"Range": f"bytes={have}-", "If-Range": etag} if etag and have else {}
    try:
        async with web.get(wanted.url, headers, wanted.secret) as answer:
            response = answer.response
            goes = judge(response.status_code, response.headers, have, etag, shown_url(wanted.url))
            if isinstance(goes, Later):
                return goes.reason
            if isinstance(goes, Anew):
                await asyncio.to_thread(part.begin, None)
                return "the file has changed meanwhile"
            if isinstance(goes, Whole):
                await told.answered(answer, have)
                return None
            _require_size(goes.total or 0, wanted)
            await told.answered(answer, goes.total)
            if goes.start == 0:
                await asyncio.to_thread(part.begin, goes.etag)
            return await _receive(response, goes, wanted, part, told)
    except httpx.TransportError as exc:
        return str(exc) or type(exc).__name__


async def _receive(response: httpx.Response, goes: Goes, wanted: Wanted, part: Part, told: Told) -> str | None:
    """The body, in large pieces; what came is kept, however it ends. Raises httpx's TransportError."""
    have, batch = goes.start, bytearray()

    async def flush() -> None:
        data = bytes(batch)
        batch.clear()
        await see_through(asyncio.to_thread(part.append, data))

    try:
        async for block in response.aiter_raw():
            have += len(block)
            _require_size(have, wanted)
            batch += block
            if len(batch) >= BATCH_BYTES:
                await flush()
                await told.received(have, goes.total)
    finally:
        if batch:
            await flush()
    if goes.total is not None and have != goes.total:
        return f"{have} of {goes.total} bytes came"
    return None


def _require_size(size: int, wanted: Wanted) -> None:
    if size > wanted.limit_bytes:
        raise JobError(
            f"The file has more than {wanted.limit_bytes // BYTES_PER_MB} MB.",
            code="file_too_large",
            value=shown_url(wanted.url),
            hint=f"{wanted.limit_setting} allows that much; raise it to take the file.",
        )
