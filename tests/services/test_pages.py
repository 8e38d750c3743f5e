"""Cursors: they lead back to where a page ended, and nothing else is one."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InputError
from api.services.pages import decode_cursor, encode_cursor

TIMES = st.datetimes(timezones=st.just(UTC))


@given(TIMES, st.uuids())
def test_a_cursor_leads_back_to_its_row(when: datetime, row_id: UUID) -> None:
    cursor = encode_cursor(when, row_id)
    assert decode_cursor(cursor) == (when, row_id)
    assert len(cursor) <= 200
    assert cursor.isascii()


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_cursor(text)
    assert (caught.value.code, caught.value.value) == ("cursor_invalid", text)


@given(TIMES, st.uuids(), st.data())
def test_a_changed_cursor_is_refused_or_another_honest_one(when: datetime, row_id: UUID, data: st.DataObject) -> None:
    cursor = encode_cursor(when, row_id)
    place = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:place] + data.draw(st.characters()) + cursor[place + 1 :]
    try:
        found = decode_cursor(changed)
    except InputError:
        return
    assert encode_cursor(*found) == changed


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=-1))])
def test_a_time_that_is_not_utc_is_refused(zone: timezone | None) -> None:
    with pytest.raises(InputError):
        decode_cursor(encode_cursor(datetime.max.replace(tzinfo=zone), UUID(int=1)))
