"""Both families of captioners by SimpleTuner's real Python: real classes of transformers, tiny random weights."""

import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from api.domain.captioning import CaptionerName
from api.domain.job import Kind, Queue
from api.engines import locate, receipt
from api.engines.receipt import Receipt
from api.resources import Resources, open_resources
from api.settings import Settings
from api.tasks.caption import caption
from api.tasks.dispatch import Dispatcher
from api.tasks.gpu import GpuKit
from tests.captioner.stand import Stand
from tests.service import with_values
from tests.tasks.stage import on_duty

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]

MAKER = Path(__file__).with_name("tiny_captioners.py")
FAMILIES = {CaptionerName.FLORENCE_2: "florence2", CaptionerName.JOYCAPTION: "llava"}
LOAD_SECONDS = 180.0
"""On a busy machine torch and transformers take a minute to import."""


@pytest.fixture(scope="module")
def tiny_captioners(engines_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engines folder with the real SimpleTuner and both captioners, tiny."""
    folder = tmp_path_factory.mktemp("captioners")
    python = locate.simpletuner(Settings(_env_file=None, masuka_engines_dir=engines_dir)).python
    subprocess.run([python, "-I", str(MAKER), str(folder)], check=True, capture_output=True, timeout=LOAD_SECONDS)
    engines = folder / "engines"
    for name, family in FAMILIES.items():
        (engines / name).mkdir(parents=True)
        (folder / family).rename(engines / name / "model")
        receipt.write(engines / name, Receipt("", "tiny"))
    (engines / "simpletuner").symlink_to(engines_dir / "simpletuner")
    return engines


@pytest.fixture
async def stand(
    settings: Settings, valkey_url: str, tiny_captioners: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stand]:
    """A GPU worker on duty, on a machine with the memory that the real weights need."""
    monkeypatch.setattr("api.tasks.caption.available_bytes", lambda: 64 * 1024**3)
    settings = with_values(settings, masuka_engines_dir=tiny_captioners)
    async with open_resources(settings, valkey_url) as resources, on_duty(_worker(resources)):
        yield Stand(resources)


def _worker(resources: Resources) -> Dispatcher:
    return Dispatcher(resources, Queue.GPU, {Kind.CAPTION: partial(caption, GpuKit(resources))})


@pytest.mark.parametrize("name", CaptionerName)
async def test_every_picture_is_described_by_the_real_classes(stand: Stand, name: CaptionerName) -> None:
    dataset_id = await stand.dataset("", "", "", "mine", "")
    await stand.replace((await stand.images(dataset_id))[2], b"no picture at all")
    row = await stand.begin(dataset_id, captioner=name.value)
    job = await stand.ended(row, LOAD_SECONDS)
    assert (job.status, job.error_message) == ("completed", None)
    captions = await stand.captions(dataset_id)
    assert (captions[2], captions[3]) == ("", "mine")
    described = [captions[0], captions[1], captions[4]]
    assert all(text.startswith("ohwx, ") and text != "ohwx, " for text in described)
    assert len(set(described)) > 1  # it has seen them
    assert [item.error_code for item in await stand.outcomes(row)] == [None, None, "image_unreadable", None]
    assert (await stand.images(dataset_id))[0].caption_provenance["revision"] == "tiny"
