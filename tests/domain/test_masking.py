"""Secrets become stars, and every offset stays."""

from api.domain.masking import margin, masked


def test_every_byte_of_a_secret_is_a_star() -> None:
    assert masked(b"key=s3cret-key end", ["s3cret-key"]) == b"key=********** end"


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    assert masked(b"a b c", ["a", ""]) == b"a b c"


def test_a_secret_cut_by_the_edge_of_a_range_is_seen_with_the_margin() -> None:
    data, secret = b"0123 s3cret-key 456", "s3cret-key"
    start = data.index(b"cret")
    around = margin([secret])
    assert masked(data[start - around if start > around else 0 : start + 4 + around], [secret]).count(b"*") == len(
        secret
    )
    assert margin([]) == 0
