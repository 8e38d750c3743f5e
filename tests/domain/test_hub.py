"""Whose word counts for the content of a file."""

from api.domain.hub import promised_sha256

SHA256 = "ab" * 32
LINKED = {"x-linked-etag": f'"{SHA256}"'}


def test_the_hub_says_what_the_file_is_that_it_redirects_to() -> None:
    assert promised_sha256([("hub", LINKED), ("other", {})], {}, "hub") == SHA256
    assert promised_sha256([], LINKED, "hub") == SHA256


def test_nobody_else_does() -> None:
    assert promised_sha256([("hub", {}), ("other", LINKED)], LINKED, "hub") is None
    assert promised_sha256([("other", LINKED)], LINKED, None) is None
    assert promised_sha256([("hub", {"x-linked-etag": '"a git hash"'})], {}, "hub") is None
