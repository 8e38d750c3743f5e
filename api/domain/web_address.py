"""Which URLs may be asked for a file: those of public servers, by https, on its own port. Pure.

Nothing that a URL, a redirect or a name server says may lead a download into the owner's network.
"""

import httpx

from api.domain.addresses import is_literal, may_reach
from api.errors import InputError

MAX_URL_CHARACTERS = 2048
HTTPS_PORT = 443


def parse_url(text: str) -> httpx.URL:
    """A URL that may be asked, as far as it shows by itself. Raises InputError `url_not_allowed`."""
    if len(text) > MAX_URL_CHARACTERS:
        raise _not_allowed(f"it has more than {MAX_URL_CHARACTERS} characters", text)
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError) as exc:
        raise _not_allowed("it is no URL", text) from exc
    if url.scheme != "https":
        raise _not_allowed("only https is", text)
    if port not in (None, HTTPS_PORT):
        raise _not_allowed(f"only port {HTTPS_PORT} is", text)
    if url.userinfo:
        raise _not_allowed("it carries a user name or password", text)
    if not url.host:
        raise _not_allowed("it names no host", text)
    if is_literal(url.host) and not may_reach(url.host, private=False):
        raise _not_allowed("its address is not a public one", text)
    return url.copy_with(fragment=None)


def shown_url(url: httpx.URL | str) -> str:
    """Without its query, which may hold a token."""
    return str(httpx.URL(url).copy_with(query=None))


def _not_allowed(why: str, text: str) -> InputError:
    return InputError(
        f"This URL is not allowed: {why}.",
        code="url_not_allowed",
        value=None if "@" in text else text.partition("?")[0],  # there may be a password in it
        hint="Give a https:// URL of a public server, on the usual port.",
    )
