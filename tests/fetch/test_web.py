"""No URL, redirect or name server leads into the owner's network, and no token to a stranger."""

import httpx
import pytest

from api.errors import InputError, JobError
from api.fetch.web import Secret, resolve
from tests.https_server import FILES, HUB, OTHER, PUBLIC, HttpsServer, Reach

URL = f"https://{FILES}/a"


async def fetched(reach: Reach, url: str = URL, secret: Secret | None = None) -> bytes:
    async with reach.web.get(url, secret=secret) as answer:
        assert answer.response.status_code == 200
        return await answer.response.aread()


async def test_the_address_that_was_checked_is_the_one_that_is_asked(server: HttpsServer, reach: Reach) -> None:
    server.files[f"{FILES}/a"] = b"content"
    reach.names.known[FILES] = [PUBLIC[FILES], ["127.0.0.1"]]  # a name server that answers otherwise the next time
    assert await fetched(reach) == b"content"
    assert reach.names.asked == [FILES]
    assert reach.dialled == list(PUBLIC[FILES])


async def test_the_server_must_prove_that_it_is_the_one_of_the_url(server: HttpsServer, reach: Reach) -> None:
    server.files["stranger.example/a"] = b"content"
    reach.names.known["stranger.example"] = [PUBLIC[FILES]]
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        await fetched(reach, "https://stranger.example/a")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        ["::1"],
        ["fd00::1"],
        ["::ffff:192.168.0.1"],
        ["93.184.216.34", "192.168.0.1"],
    ],
)
async def test_a_name_that_leads_inside_is_not_asked(reach: Reach, addresses: list[str]) -> None:
    reach.names.known[FILES] = [addresses]
    with pytest.raises(JobError) as caught:
        await fetched(reach)
    assert caught.value.code == "address_not_allowed"
    assert reach.dialled == []


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001"])
async def test_an_address_in_disguise_is_seen_through(reach: Reach, host: str) -> None:
    reach.names.known[host] = [await resolve(host)]  # as this system understands it
    with pytest.raises((JobError, InputError)) as caught:
        await fetched(reach, f"https://{host}/a")
    assert caught.value.code in ("address_not_allowed", "url_not_allowed")
    assert reach.dialled == []


async def test_a_redirect_is_followed_and_may_be_relative(server: HttpsServer, reach: Reach) -> None:
    server.redirects |= {f"{FILES}/a": f"https://{OTHER}/b", f"{OTHER}/b": "c?x=1"}
    server.files[f"{OTHER}/c"] = b"content"
    assert await fetched(reach) == b"content"
    assert reach.names.asked == [FILES, OTHER, OTHER]


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://other.example/b", "url_not_allowed"),
        ("https://other.example:8443/b", "url_not_allowed"),
        ("https://127.0.0.1/b", "url_not_allowed"),
        ("https://[::1]/b", "url_not_allowed"),
        ("https://a:b@other.example/b", "url_not_allowed"),
        ("file:///etc/passwd", "url_not_allowed"),
        ("https://inside.example/b", "address_not_allowed"),
        ("https://files.example/a", "too_many_redirects"),
    ],
)
async def test_a_redirect_is_judged_like_the_url_itself(
    server: HttpsServer, reach: Reach, location: str, code: str
) -> None:
    server.redirects[f"{FILES}/a"] = location
    reach.names.known["inside.example"] = [["10.0.0.7"]]
    with pytest.raises((JobError, InputError)) as caught:
        await fetched(reach)
    assert caught.value.code == code
    assert set(reach.dialled) == set(PUBLIC[FILES])


async def test_a_token_goes_to_its_own_host_alone(server: HttpsServer, reach: Reach) -> None:
    server.redirects[f"{HUB}/a"] = f"https://{FILES}/a"
    server.files[f"{FILES}/a"] = b"content"
    assert await fetched(reach, f"https://{HUB}/a", Secret(HUB, "hf_secret")) == b"content"
    assert [(get.host, get.token) for get in server.gets] == [(HUB, "Bearer hf_secret"), (FILES, "")]


async def test_a_name_that_does_not_exist_is_a_trouble_of_the_network(reach: Reach) -> None:
    with pytest.raises(httpx.ConnectError, match=r"nowhere\.example is not found"):
        await fetched(reach, "https://nowhere.example/a")
