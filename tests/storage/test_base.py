"""The names of files: as keys, and as downloads."""

import string

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import given
from hypothesis import strategies as st

from api.storage.base import content_disposition, require_key

SEGMENT = st.text(string.ascii_lowercase + string.digits + "_-.", min_size=1, max_size=20)


@given(st.lists(SEGMENT.filter(lambda part: not part.startswith(".")), min_size=1, max_size=5).map("/".join))
def test_a_key_of_our_own_making_is_taken(key: str) -> None:
    assert require_key(key) == key


@given(st.text())
def test_a_key_never_leads_out_of_its_folder_or_to_a_hidden_file(key: str) -> None:
    try:
        require_key(key)
    except ValueError:
        return
    assert key.isascii()
    assert not any(part.startswith(".") or not part for part in key.split("/"))


@given(st.text(min_size=1, max_size=50))
def test_any_file_name_makes_one_header_value(filename: str) -> None:
    value = content_disposition(filename)
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("Grüße 日本語.png", "Grüße 日本語.png"),
        ('a"b\\c.png', "a_b_c.png"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("two\r\nlines.png", "two__lines.png"),
        ("100%.png", "100%.png"),
    ],
)
def test_a_download_gets_the_name_it_should_in_any_script(filename: str, shown: str) -> None:
    kind, parameters = parse_content_disposition(content_disposition(filename))
    assert kind == "attachment"
    assert content_disposition_filename(parameters) == shown
