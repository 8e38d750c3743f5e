"""`If-Match`: a change of what the client has seen, or none."""

from typing import Annotated

from fastapi import Header

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="The ETag of what you have read: the change is refused with 412 when that has changed since.",
    ),
]


def tags(header: str | None) -> frozenset[str] | None:
    """Without quotes; None when everything will do."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(one.strip().removeprefix("W/").strip('"') for one in header.split(","))


def revision(header: str | None) -> int | None:
    """Of a dataset; -1, which none has, for an ETag of something else."""
    found = tags(header)
    if found is None:
        return None
    (tag,) = found if len(found) == 1 else ("",)
    return int(tag) if tag.isascii() and tag.isdecimal() and len(tag) <= 18 else -1


def etag(tag: object) -> dict[str, str]:
    """The header of an answer that can be named in `If-Match`."""
    return {"ETag": f'"{tag}"'}
