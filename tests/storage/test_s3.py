"""What S3 and the way to it can do wrong, and how AWS and other servers are told apart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import aioboto3
import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr

from api.errors import ConfigError, StorageError
from api.settings import Settings
from api.storage import Storage, open_storage, s3
from api.storage.s3_upload import MAX_PARTS, PART_BYTES, part_bytes
from tests.servers import S3Server, s3_server
from tests.storage.proxy import S3Proxy, access_denied, s3_proxy

EXPIRY_SECONDS = 1


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4().hex}"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return filled(tmp_path / "small", 500_000)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return filled(tmp_path / "large", 3 * PART_BYTES + 1)


def filled(path: Path, size: int) -> Path:
    path.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    return path


def changed(settings: Settings, **fields: object) -> Settings:
    """Settings made anew, for a copy would keep what was derived from the old values."""
    return Settings.model_validate({**settings.model_dump(), **fields})


@pytest.fixture
async def proxied(s3_settings: Settings, s3: S3Server) -> AsyncIterator[tuple[S3Proxy, Storage]]:
    """Storage whose requests pass through a proxy."""
    async with (
        s3_proxy(s3.endpoint) as (proxy, url),
        open_storage(changed(s3_settings, s3_endpoint_url=url)) as storage,
    ):
        yield proxy, storage


async def code_of_put(storage: Storage, key: str, path: Path) -> str:
    with pytest.raises(StorageError) as raised:
        await storage.put_file(key, path)
    return raised.value.code


async def uploads_left(settings: Settings) -> list[object]:
    """Multipart uploads that were begun and neither completed nor aborted."""
    async with s3_client(settings) as client:
        answer = await client.list_multipart_uploads(Bucket=settings.s3_bucket_name)
    return list(answer.get("Uploads", []))


def s3_client(settings: Settings):
    return aioboto3.Session().client("s3", **s3.client_options(settings))


# ---- permissions -----------------------------------------------------------------------------------------------------


def only_put_get_delete(request: web.Request) -> web.Response | None:
    lists = request.method == "GET" and request.path.count("/") == 1
    return access_denied() if request.method == "HEAD" or lists else None


def missing_is_denied(request: web.Request, response: web.Response) -> web.Response:
    """What AWS answers for a missing key to who may not list."""
    return access_denied() if response.status == 404 else response


async def test_put_get_and_delete_are_permissions_enough(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, large: Path, tmp_path: Path
) -> None:
    proxy, storage = proxied
    proxy.answer, proxy.change = only_put_get_delete, missing_is_denied

    await storage.check()
    assert await storage.size(key) is None
    with pytest.raises(FileNotFoundError):
        await storage.get_file(key, tmp_path / "out")
    for path in (small, large):
        stored = await storage.put_file(key, path)
        assert await storage.size(key) == stored.size == path.stat().st_size
        assert await storage.get_file(key, tmp_path / "out") == stored
    await storage.delete(key)
    assert await storage.size(key) is None


async def test_what_may_not_be_read_is_not_taken_for_gone(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, tmp_path: Path
) -> None:
    proxy, storage = proxied
    await storage.put_file(key, small)
    proxy.answer = lambda request: access_denied() if request.method == "GET" else None
    for reading in (storage.size(key), storage.get_file(key, tmp_path / "out")):
        with pytest.raises(StorageError) as raised:
            await reading
        assert raised.value.code == "storage_denied"


@pytest.mark.parametrize(
    ("method", "operation"), [("PUT", "PutObject"), ("GET", "GetObject"), ("DELETE", "DeleteObject")]
)
async def test_a_check_names_the_permission_that_lacks_and_how_to_mend_it(
    proxied: tuple[S3Proxy, Storage], method: str, operation: str
) -> None:
    proxy, storage = proxied
    proxy.answer = lambda request: access_denied() if request.method == method else None
    with pytest.raises(StorageError) as raised:
        await storage.check()
    assert raised.value.code == "storage_denied"
    assert operation in raised.value.detail
    assert "put, get and delete" in (raised.value.hint or "")


async def test_a_wrong_secret_is_said_and_never_shown(s3_settings: Settings) -> None:
    secret = "not-the-secret-of-this-key"
    async with open_storage(changed(s3_settings, aws_secret_access_key=SecretStr(secret))) as storage:
        with pytest.raises(StorageError) as raised:
            await storage.check()
        with pytest.raises(StorageError):
            await storage.size("a-key-that-is-there-or-not")
    assert raised.value.code == "storage_credentials_invalid"
    assert secret not in str(raised.value)
    assert secret not in str(raised.value.__cause__)


async def test_a_missing_bucket_is_said(s3_settings: Settings, small: Path) -> None:
    async with open_storage(changed(s3_settings, s3_bucket_name="no-such-bucket")) as storage:
        assert await code_of_put(storage, "a", small) == "storage_bucket_missing"
        with pytest.raises(StorageError):
            await storage.size("a")


# ---- an unreliable way -----------------------------------------------------------------------------------------------


async def test_bytes_that_change_on_the_way_back_are_found_out_and_removed(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, large: Path
) -> None:
    proxy, storage = proxied

    def flip(request: web.Request, response: web.Response) -> web.Response:
        if request.method == "GET" and isinstance(response.body, bytes):
            response.body = response.body[:-1] + b"?"
        return response

    for path in (small, large):
        proxy.change = flip
        assert await code_of_put(storage, key, path) == "storage_verify_failed"
        proxy.change = lambda request, response: response
        assert await storage.size(key) is None


async def test_bytes_that_change_on_the_way_there_are_refused(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path
) -> None:
    proxy, storage = proxied
    proxy.alter = lambda request, body: b"?" + body[1:] if request.method == "PUT" else body
    with pytest.raises(StorageError):
        await storage.put_file(key, small)
    assert await storage.size(key) is None


async def test_a_download_that_breaks_goes_on_where_it_stopped(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, tmp_path: Path
) -> None:
    proxy, storage = proxied
    stored = await storage.put_file(key, small)
    proxy.requests.clear()
    proxy.cut_after = lambda request: 100_000 if len(proxy.requests) < 4 else None

    assert await storage.get_file(key, tmp_path / "out") == stored
    assert (tmp_path / "out").read_bytes() == small.read_bytes()
    assert [r.headers.get("Range") for r in proxy.requests] == [
        None, "bytes=100000-", "bytes=200000-", "bytes=300000-"
    ]  # fmt: skip


async def test_a_file_replaced_during_a_broken_download_is_not_mixed(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, tmp_path: Path
) -> None:
    proxy, storage = proxied
    await storage.put_file(key, small)
    chunks = storage.open(key)
    proxy.cut_after = lambda request: 100_000 if request.method == "GET" else None
    await anext(chunks)
    proxy.cut_after = lambda request: None
    await storage.put_file(key, filled(tmp_path / "newer", 600_001))
    with pytest.raises(StorageError):
        async for _ in chunks:
            pass


async def test_a_download_that_never_gets_further_gives_up(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, tmp_path: Path
) -> None:
    proxy, storage = proxied
    await storage.put_file(key, small)
    proxy.cut_after = lambda request: 0
    with pytest.raises(StorageError) as raised:
        await storage.get_file(key, tmp_path / "out")
    assert raised.value.code == "storage_unreachable"
    assert not (tmp_path / "out").exists()


async def test_an_upload_of_which_a_part_is_refused_is_aborted(
    proxied: tuple[S3Proxy, Storage], s3_settings: Settings, key: str, large: Path
) -> None:
    proxy, storage = proxied
    proxy.answer = lambda request: access_denied() if request.query.get("partNumber") == "2" else None

    assert await code_of_put(storage, key, large) == "storage_denied"
    assert await storage.size(key) is None
    assert await uploads_left(s3_settings) == []


async def test_an_upload_cancelled_half_way_is_aborted(
    proxied: tuple[S3Proxy, Storage], s3_settings: Settings, key: str, large: Path
) -> None:
    proxy, storage = proxied
    put = asyncio.create_task(storage.put_file(key, large))

    def cancel(request: web.Request) -> None:
        if request.query.get("partNumber") == "2":
            put.cancel()

    proxy.answer = cancel
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await storage.size(key) is None
    assert await uploads_left(s3_settings) == []


async def test_a_server_that_dies_during_a_put_is_an_error_not_a_hang(
    settings: Settings, key: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    with s3_server() as server:
        async with s3_proxy(server.endpoint) as (proxy, url):

            def kill(request: web.Request) -> None:
                if request.query.get("partNumber") == "2":
                    server.process.kill()
                    server.process.wait()

            proxy.answer = kill
            fields = {**server.settings, "s3_endpoint_url": url}
            async with open_storage(changed(settings, **fields)) as storage:
                assert await code_of_put(storage, key, large) == "storage_unreachable"


async def test_a_server_that_is_not_there_is_named(s3_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    nowhere = "http://127.0.0.1:9"
    async with open_storage(changed(s3_settings, s3_endpoint_url=nowhere)) as storage:
        with pytest.raises(StorageError) as raised:
            await storage.size("a")
    assert raised.value.code == "storage_unreachable"
    assert nowhere in raised.value.detail


# ---- links -----------------------------------------------------------------------------------------------------------


async def test_a_link_downloads_without_credentials_under_any_name(
    s3_settings: Settings, key: str, small: Path
) -> None:
    async with open_storage(s3_settings) as storage, httpx.AsyncClient() as browser:
        await storage.put_file(key, small, "image/png")
        url = await storage.presigned_url(key, expires_seconds=60, filename='Grüße "日本".png')
        assert url is not None
        answer = await browser.get(url)
        assert answer.content == small.read_bytes()
        assert answer.headers["content-type"] == "image/png"
        assert "filename*=UTF-8''Gr%C3%BC%C3%9Fe%20_%E6%97%A5%E6%9C%AC_.png" in answer.headers["content-disposition"]

        assert (await browser.get(url.replace(key, key + "x"))).status_code == 403
        assert (await browser.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"))).status_code == 403
        assert (await browser.get(url.partition("?")[0])).status_code == 403


async def test_a_link_ends_when_it_expires(s3_settings: Settings, key: str, small: Path) -> None:
    async with open_storage(s3_settings) as storage, httpx.AsyncClient() as browser:
        await storage.put_file(key, small)
        url = await storage.presigned_url(key, expires_seconds=EXPIRY_SECONDS, filename="a")
        assert url is not None
        statuses = [200]
        async with asyncio.timeout(10):
            while statuses[-1] == 200:
                statuses.append((await browser.get(url)).status_code)
    assert statuses[-1] == 403


# ---- which server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "endpoint", "host", "path"),
    [
        ("us-east-1", "", "lora-box.s3.amazonaws.com", "/a/b"),
        ("eu-central-1", "", "lora-box.s3.eu-central-1.amazonaws.com", "/a/b"),
        ("eu-central-1", "https://s3.amazonaws.com", "lora-box.s3.eu-central-1.amazonaws.com", "/a/b"),
        ("cn-north-1", "", "lora-box.s3.cn-north-1.amazonaws.com.cn", "/a/b"),
        ("auto", "https://0123.r2.cloudflarestorage.com", "0123.r2.cloudflarestorage.com", "/lora-box/a/b"),
        ("us-east-1", "http://minio:9000", "minio:9000", "/lora-box/a/b"),
    ],
)
async def test_aws_is_addressed_by_bucket_and_region_and_others_by_their_endpoint(
    s3_settings: Settings, monkeypatch: pytest.MonkeyPatch, region: str, endpoint: str, host: str, path: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://somewhere.else.example")
    fields = {"s3_region": region, "s3_endpoint_url": endpoint, "s3_bucket_name": "lora-box"}
    async with open_storage(changed(s3_settings, **fields)) as storage:
        url = await storage.presigned_url("a/b", expires_seconds=60, filename="b")
    assert url is not None
    parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
    assert (parts.netloc, parts.path) == (host, path)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Credential"][0].split("/")[2] == region
    assert s3_settings.aws_secret_access_key.get_secret_value() not in unquote(url)


async def test_no_request_carries_a_checksum_that_r2_refuses(
    proxied: tuple[S3Proxy, Storage], key: str, small: Path, large: Path
) -> None:
    proxy, storage = proxied
    for path in (small, large):
        await storage.put_file(key, path)
    sent = {name.lower() for request in proxy.requests for name in request.headers}
    assert not [name for name in sent if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer"))]


@pytest.mark.parametrize("wrong", [{"s3_endpoint_url": "minio:9000"}, {"s3_region": "the moon"}])
async def test_a_wrong_address_is_one_clear_error(s3_settings: Settings, wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="No S3 client"):
        async with open_storage(changed(s3_settings, **wrong)):
            pass


async def test_a_profile_that_does_not_exist_is_one_clear_error(
    s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "none-of-this-name")
    with pytest.raises(ConfigError, match="none-of-this-name"):
        async with open_storage(s3_settings):
            pass


def test_the_largest_file_fits_into_the_parts_s3_allows() -> None:
    assert part_bytes(1) == PART_BYTES
    for size in (PART_BYTES * MAX_PARTS, PART_BYTES * MAX_PARTS + 1, 5 << 40):
        assert -(-size // part_bytes(size)) <= MAX_PARTS
