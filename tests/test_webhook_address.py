"""The URL and the secret of webhooks: what is none is refused, without repeating it."""

import pytest

from api.webhook_address import host_of, require_url, shown, signing_keys
from tests.receiver import SECRET


@pytest.mark.parametrize(
    ("url", "host", "seen"),
    [
        ("https://example.org/hook?token=hunter2", "example.org", "https://example.org"),
        ("http://me:hunter2@example.org:8080/hunter2", "example.org", "http://example.org:8080"),
        ("https://[::1]:9/x", "::1", "https://[::1]:9"),
        ("HTTP://localhost", "localhost", "http://localhost"),
        ("https://münchen.example/x", "münchen.example", "https://münchen.example"),
    ],
)
def test_of_a_url_only_scheme_host_and_port_are_shown(url: str, host: str, seen: str) -> None:
    require_url(url)

    assert (host_of(url), shown(url)) == (host, seen)


@pytest.mark.parametrize(
    "url",
    [
        *("", "hunter2", "example.org/hook", "ftp://hunter2.org", "file:///etc/hunter2", "//hunter2.org", "https://"),
        *(
            "https:///hunter2",
            "https://hunter2:port/",
            "https://hunter2:99999/",
            "https://hunter2:0/",
            "https://[hunter2",
        ),
        *(
            "https://hunter2.org/a b",
            "https://hunter2.org/\r\nX: y",
            "https://hunter2.org/\x00",
            "https://hunter2\t.org",
        ),
        *("gopher://hunter2.org", "unix:///hunter2", "javascript:hunter2"),
    ],
)
def test_what_is_no_http_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|is) ") as caught:
        require_url(url)

    assert "hunter2" not in str(caught.value)


def test_a_secret_holds_one_key_or_more() -> None:
    assert signing_keys("") == []
    assert signing_keys(SECRET) == [b"secret" * 4]
    assert signing_keys(f" {SECRET}\n{SECRET} ") == [b"secret" * 4] * 2


@pytest.mark.parametrize(
    "secret",
    [
        *("hunter2", "whsec_", "whsec_hunter2", "c2VjcmV0" * 4, "whsec_" + "c2VjcmV0" * 3, "whsec_" + "c2VjcmV0" * 11),
        *(f"{SECRET} hunter2", "whsec_" + "c2Vj*mV0" * 4, "whsec_" + "é" * 40),
    ],
)
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand") as caught:
        signing_keys(secret)

    assert "hunter2" not in str(caught.value)
