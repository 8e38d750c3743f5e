"""Ranges of a text that grows: whole characters, no byte twice and none left out."""

from hypothesis import given
from hypothesis import strategies as st

from api.domain.byte_range import ByteRange, choose, from_next_line, whole_characters


@given(st.text(max_size=200), st.integers(4, 50))
def test_read_piece_by_piece_it_is_the_whole_text(text: str, limit: int) -> None:
    data, offset, pieces = text.encode(), 0, []
    while offset < len(data):
        wanted = choose(len(data), offset, limit)
        piece = whole_characters(data[wanted.start : wanted.end])
        assert piece
        pieces.append(piece.decode())
        offset += len(piece)
    assert "".join(pieces) == text


@given(st.binary(max_size=40))
def test_what_is_no_text_is_read_to_its_end_too(data: bytes) -> None:
    offset = 0
    while offset < len(data):
        piece = whole_characters(data[offset : offset + 8])
        assert piece
        offset += len(piece)


def test_without_an_offset_it_is_the_end() -> None:
    assert choose(100, None, 30) == ByteRange(70, 100)
    assert choose(10, None, 30) == ByteRange(0, 10)


def test_beyond_what_there_is_there_is_nothing_yet() -> None:
    assert choose(100, 200, 30) == ByteRange(100, 100)


def test_an_end_begins_with_a_whole_line() -> None:
    assert from_next_line(b"f a line\nnext\n") == b"next\n"
    assert from_next_line(b"one long line") == b"one long line"
