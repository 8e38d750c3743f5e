import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.engines.catalogue import ModelFile
from api.engines.hub import TRIES_WITHOUT_PROGRESS, Hub, translated
from api.errors import InstallError
from tests.engines.hub_server import GOOD_TOKEN, TOKEN_WITHOUT_LICENCE, HubServer, running_hub

CONTENT = os.urandom(3_000_000)
FILE = ModelFile("owner/model", "transformer/weights.safetensors", "models/weights.safetensors", len(CONTENT))


@pytest.fixture
def server() -> Iterator[HubServer]:
    with running_hub() as hub:
        hub.files["owner/model/transformer/weights.safetensors"] = CONTENT
        yield hub


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / FILE.target


def client(server: HubServer, token: str = GOOD_TOKEN) -> Hub:
    return Hub(token, endpoint=server.url, pause_seconds=0)


def download(server: HubServer, target: Path) -> int:
    """Returns how many bytes were reported in all."""
    hub = client(server)
    counts: list[int] = []
    hub.download(FILE, hub.ask(FILE), target, counts.append)
    return sum(counts)


def code_of(error: pytest.ExceptionInfo[InstallError]) -> str:
    return error.value.code


def left_over(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_download_is_the_file_and_leaves_nothing_else(server: HubServer, target: Path):
    assert download(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert left_over(target) == []


def test_a_file_that_is_there_is_not_asked_for_again(server: HubServer, target: Path):
    download(server, target)
    assert download(server, target) == len(CONTENT), "it counts as received"
    assert len(server.gets) == 1


def test_a_cut_connection_goes_on_where_it_stopped(server: HubServer, target: Path):
    server.cut_after.extend([1_000_000, 500_000])
    assert download(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    starts = [asked for _, asked in server.gets]
    assert starts[0] == ""
    assert starts[1:] == ["bytes=1000000-", "bytes=1500000-"]


def test_an_error_of_the_server_that_may_pass_is_tried_again(server: HubServer, target: Path):
    server.statuses.extend([503, 429])
    download(server, target)
    assert target.read_bytes() == CONTENT
    assert len(server.gets) == 3


def test_a_later_run_goes_on_where_a_failed_one_stopped(server: HubServer, target: Path):
    server.cut_after.extend([1_000_000, *([0] * TRIES_WITHOUT_PROGRESS)])
    with pytest.raises(InstallError) as error:
        download(server, target)
    assert code_of(error) == "download_failed"
    assert not target.exists()
    server.gets.clear()
    server.cut_after.clear()
    assert download(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert server.gets == [(FILE.path, "bytes=1000000-")]


def test_a_part_of_another_version_is_not_continued(server: HubServer, target: Path):
    server.cut_after.extend([1_000_000, *([0] * TRIES_WITHOUT_PROGRESS)])
    with pytest.raises(InstallError):
        download(server, target)
    newer = os.urandom(2_000_000)
    server.files["owner/model/transformer/weights.safetensors"] = newer
    server.cut_after.clear()
    download(server, target)
    assert target.read_bytes() == newer


def test_a_server_that_ignores_ranges_starts_over_and_takes_back_what_was_counted(server: HubServer, target: Path):
    server.cut_after.append(1_000_000)
    server.ranges_ignored = True
    assert download(server, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_a_damaged_file_is_refused_and_starts_anew(server: HubServer, target: Path):
    server.damaged = True
    with pytest.raises(InstallError, match="SHA-256") as error:
        download(server, target)
    assert code_of(error) == "download_failed"
    assert not target.exists()
    server.damaged = False
    download(server, target)
    assert target.read_bytes() == CONTENT


def test_a_file_that_ends_early_for_good_is_refused(server: HubServer, target: Path):
    hub = client(server)
    told = hub.ask(FILE)
    server.files["owner/model/transformer/weights.safetensors"] = CONTENT[:1_000_000]
    with pytest.raises(InstallError, match="1000000 bytes instead of 3000000") as error:
        hub.download(FILE, told, target, lambda count: None)
    assert code_of(error) == "download_failed"
    assert not target.exists()


def test_a_licence_that_is_not_accepted_is_named_with_its_page(server: HubServer):
    with pytest.raises(InstallError) as error:
        client(server, TOKEN_WITHOUT_LICENCE).ask(FILE)
    assert code_of(error) == "model_gated"
    assert "https://huggingface.co/owner/model" in str(error.value)


def test_a_wrong_token_is_said_to_be_wrong_and_not_shown(server: HubServer):
    with pytest.raises(InstallError) as error:
        client(server, "hf_secret_but_wrong").ask(FILE)
    assert code_of(error) == "hf_token_invalid"
    assert "hf_secret" not in str(error.value)


def test_a_file_that_the_repository_lost_is_a_failed_download(server: HubServer):
    server.files.clear()
    with pytest.raises(InstallError) as error:
        client(server).ask(FILE)
    assert code_of(error) == "download_failed"
    assert FILE.path in str(error.value)


def test_a_hub_that_cannot_be_reached_is_a_failed_download(server: HubServer):
    with pytest.raises(InstallError) as error:
        Hub(GOOD_TOKEN, endpoint="http://127.0.0.1:9").ask(FILE)
    assert code_of(error) == "download_failed"


def test_a_full_disk_is_named():
    error = translated(OSError(errno.ENOSPC, "No space left on device"), FILE)
    assert error.code == "disk_full"
    assert FILE.path in str(error)
