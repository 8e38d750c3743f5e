"""What of all pictures is meant: filters, as conditions of which indexes know at least one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlmodel import col

from api.domain import search
from api.domain.search import Place
from api.models import GeneratedAsset
from api.models.base import JSON_TYPE


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is to hold; None: whatever."""

    status: str | None = None
    asset_type: str | None = None
    model_id: UUID | None = None
    batch_id: UUID | None = None
    base_model: str | None = None
    workflow: str | None = None
    seed: int | None = None
    prompt: str | None = None
    search: str | None = None
    tag: str | None = None
    favourite: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    deleted: bool = False


def conditions(filters: Filters, dialect: str) -> list[sa.ColumnElement[bool]]:
    """Conditions of which indexes know at least one; `dialect`: of the database."""
    asset = GeneratedAsset
    deleted_at = col(asset.deleted_at)
    found: list[sa.ColumnElement[bool]] = [deleted_at.is_not(None) if filters.deleted else deleted_at.is_(None)]
    for column, value in (
        (col(asset.status), filters.status),
        (col(asset.asset_type), filters.asset_type),
        (col(asset.batch_id), filters.batch_id),
        (col(asset.workflow), filters.workflow),
        (col(asset.seed), filters.seed),
    ):
        found += [] if value is None else [column == value]
    if filters.favourite is not None:  # of most pictures it is false: no reason to read that index
        favourite = col(asset.favourite)
        found.append(favourite.is_(True) if filters.favourite else favourite.is_not(True))
    if filters.created_after is not None:
        found.append(col(asset.created_at) >= filters.created_after)
    if filters.created_before is not None:
        found.append(col(asset.created_at) < filters.created_before)
    has = _Words(dialect)
    for text, places in ((filters.prompt, (Place.PROMPT,)), (filters.search, search.EVERYWHERE)):
        found += [] if text is None else [has.all_of(text, places)]
    if filters.model_id is not None:
        found.append(has.exactly(search.token(str(filters.model_id)), Place.LORA))
    if filters.base_model is not None:
        found.append(has.exactly(search.token(filters.base_model), Place.BASE_MODEL))
    if filters.tag is not None:
        found.append(has.tag(filters.tag))
    return found


class _Words:
    """Conditions on `words` in the way that the index of each database answers."""

    def __init__(self, dialect: str) -> None:
        self._postgres = dialect == "postgresql"

    def all_of(self, text: str, places: Sequence[Place]) -> sa.ColumnElement[bool]:
        """Each word of the text is, or begins, a word in one of these places; a text without any finds nothing."""
        found = [self._beginning(word, places) for word in search.words(text)]
        return sa.and_(*found) if found else sa.false()

    def _beginning(self, word: str, places: Sequence[Place]) -> sa.ColumnElement[bool]:
        starts = [f"{place}{word}" for place in places]
        if self._postgres:
            return _matches(" | ".join(f"'{start}':*" for start in starts))
        return sa.or_(*(_contains(f" {start}") for start in starts))

    def exactly(self, word: str, place: Place) -> sa.ColumnElement[bool]:
        return _matches(f"'{place}{word}'") if self._postgres else _contains(f" {place}{word} ")

    def tag(self, tag: str) -> sa.ColumnElement[bool]:
        """The tag as it was written, among the pictures that have its words."""
        words = [self.exactly(word, Place.TAG) for word in search.words(tag)]
        tags = col(GeneratedAsset.tags)
        if self._postgres:
            return sa.and_(*words, tags.op("@>")(sa.type_coerce([tag], JSON_TYPE)))
        each = sa.func.json_each(tags).table_valued("value")
        return sa.and_(*words, sa.exists().select_from(each).where(each.c.value == tag))


def _contains(text: str) -> sa.ColumnElement[bool]:
    return sa.func.instr(col(GeneratedAsset.words), text) > 0


def _matches(query: str) -> sa.ColumnElement[bool]:
    """`query` is in the syntax of `tsquery`, of quoted words: they have no character that means anything in it."""
    split = sa.func.string_to_array(sa.func.btrim(col(GeneratedAsset.words)), sa.literal_column("' '"))
    return sa.func.array_to_tsvector(split).op("@@")(sa.cast(query, TSQUERY))
