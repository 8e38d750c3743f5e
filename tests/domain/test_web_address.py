"""What of the web may be asked at all."""

import pytest

from api.domain.web_address import parse_url, shown_url
from api.errors import InputError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.com/a.safetensors?token=x#top", "https://example.com/a.safetensors?token=x"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://93.184.216.34/a", "https://93.184.216.34/a"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
    ],
)
def test_an_https_url_of_a_public_server_is_taken(text: str, url: str) -> None:
    assert str(parse_url(text)) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.com/a", "http://example.com/a", "ftp://example.com/a", "file:///etc/passwd", "https://"),
        *("https://example.com:8443/a", "https://user:password@example.com/a", "https://user@example.com/a"),
        *("https://127.0.0.1/a", "https://[::1]/a", "https://[::ffff:10.0.0.1]/a", "https://169.254.169.254/meta"),
        *("https://[64:ff9b::7f00:1]/a", "https://[2002:7f00:1::]/a", "https://100.64.0.1/a", "https://[fd00::1]/a"),
        *("https://example.com:99999/a", "https://exam\x00ple.com/a", "https://" + "a" * 2048),
    ],
)
def test_every_other_url_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_url(text)
    assert caught.value.code == "url_not_allowed"


def test_a_url_is_shown_without_the_token_in_its_query() -> None:
    assert shown_url("https://example.com/a?token=secret") == "https://example.com/a"
