"""What an answer to a download means: go on, start anew, try later, or give up. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from api.errors import JobError

RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 200, 206, 416
TRIES_WITHOUT_PROGRESS = 5
MOST_PAUSE_SECONDS = 30.0
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_WHOLE = re.compile(r"bytes \*/(\d+)")


@dataclass(frozen=True, slots=True)
class Goes:
    """The body is the file from `start` on."""

    start: int
    total: int | None
    """Bytes of the whole file; None when nobody says."""
    etag: str | None
    """None without a strong one: then nothing can be resumed."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Nothing is left to come: an earlier try has brought all of it, and was stopped then."""


@dataclass(frozen=True, slots=True)
class Anew:
    """What is here fits no more: it is to be thrown away."""


@dataclass(frozen=True, slots=True)
class Later:
    """The server cannot do it now."""

    reason: str


Verdict = Goes | Whole | Anew | Later


def judge(status: int, headers: Mapping[str, str], have: int, etag: str | None, where: str) -> Verdict:
    """`have` bytes of the version `etag` are here; headers by their names in lower case.

    Raises JobError `download_refused`.
    """
    if status in RETRY_STATUSES:
        return Later(f"it answers {status}")
    if status == RANGE_NOT_SATISFIABLE and have:
        size = _WHOLE.fullmatch(headers.get("content-range", ""))
        return Whole() if size is not None and int(size[1]) == have else Anew()
    if status not in (OK, PARTIAL_CONTENT):
        raise _refused(f"it answers {status}", status, where)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise _refused("it sends the file compressed, against what was asked", status, where)
    new = _strong(headers.get("etag"))
    if status == OK:
        length = headers.get("content-length", "")
        return Goes(0, int(length) if length.isdecimal() else None, new)
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None or int(found[1]) != have or not have or (new is not None and new != etag):
        return Anew()
    return Goes(have, int(found[3]), etag)


def pause_seconds(first: float, failures: int) -> float:
    """Before the next try, after so many without progress."""
    return min(MOST_PAUSE_SECONDS, float(first * 2 ** (failures - 1)))


def _strong(etag: str | None) -> str | None:
    """A weak one (`W/`) promises no equal bytes."""
    return etag if etag and etag.startswith('"') else None


def _refused(why: str, status: int, where: str) -> JobError:
    hint = {
        401: "It wants a login: upload the file, or set HF_TOKEN for the Hub.",
        403: "It forbids that: upload the file; on the Hub accept the licence and set HF_TOKEN.",
        404: "Check the address; on the Hub the name of the repository and of the file.",
    }.get(status, "Open the address in a browser, download the file yourself and upload it.")
    return JobError(f"{where} does not give the file: {why}.", code="download_refused", value=status, hint=hint)
