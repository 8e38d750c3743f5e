"""LoRAs on their way in: proved against the real flux-tiny, kept by content."""

from dataclasses import replace
from pathlib import Path

import pytest

from api.db import Sessions
from api.domain.engine import InstalledBase
from api.domain.lora_file import content_name
from api.engines import locate
from api.errors import InputError, StorageError, UnavailableError
from api.services import lora_intake
from api.services.lora_intake import ImportForm, KeptLora, add_model
from api.settings import Settings
from api.storage import Storage
from tests.service import tiny_lora, with_values
from tests.trainer.lora_files import bf16, file_bytes, lora, pair

SINGLE_FILE = "diffusion_model.double_blocks.0.img_attn.proj"


@pytest.fixture
def base(settings: Settings) -> InstalledBase:
    return locate.base_model(settings, "flux-tiny")


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "a.safetensors"
    path.write_bytes(data)
    return path


async def keep(storage: Storage, base: InstalledBase, name: str, path: Path, tag: str = "tag") -> KeptLora:
    """Check and store."""
    checked, sha256 = await lora_intake.check(path, base)
    return await lora_intake.put(storage, lora_intake.file_key(name, sha256, tag), path, checked)


async def test_a_lora_is_stored_under_its_content_and_read_back(
    storage: Storage, base: InstalledBase, tmp_path: Path
) -> None:
    kept = await keep(storage, base, "My Face", _file(tmp_path, tiny_lora(rank=3)))
    assert kept.stored.key == f"models/tag/{content_name('My Face', kept.stored.sha256)}"
    assert await storage.size(kept.stored.key) == len(tiny_lora(rank=3))
    assert (kept.checked.rank, len(kept.checked.modules)) == (3, 1)


async def test_two_tries_to_store_one_lora_do_not_share_a_file_but_its_name(
    storage: Storage, base: InstalledBase, tmp_path: Path
) -> None:
    kept = [await keep(storage, base, "me", _file(tmp_path, tiny_lora()), tag) for tag in ("a", "b")]
    await storage.delete(kept[0].stored.key)
    assert await storage.size(kept[1].stored.key)
    assert len({lora.stored.key.rpartition("/")[2] for lora in kept}) == 1


@pytest.mark.parametrize("name", [SINGLE_FILE, "lora_unet_double_blocks_0_img_attn_proj"])
async def test_a_lora_in_the_single_files_naming_is_taken(
    storage: Storage, base: InstalledBase, tmp_path: Path, name: str
) -> None:
    (tmp_path / "diffusion_models").mkdir()
    weights = {"model.diffusion_model.double_blocks.0.img_attn.proj.weight": bf16(128, 128)}
    lora(tmp_path / "diffusion_models" / base.unet_name, weights)
    kept = await keep(
        storage, replace(base, models_dir=tmp_path), "me", _file(tmp_path, file_bytes(pair(name, out=128, inner=128)))
    )
    assert [module.name for module in kept.checked.modules] == [name]


async def test_what_does_not_fit_is_not_stored(base: InstalledBase, storage: Storage, tmp_path: Path) -> None:
    path = _file(tmp_path, tiny_lora(name="transformer.transformer_blocks.99.attn.to_q"))
    with pytest.raises(InputError) as caught:
        await keep(storage, base, "me", path)
    assert caught.value.code == "lora_keys_mismatch"
    assert "transformer_blocks.99" in caught.value.detail


async def test_a_base_model_whose_files_are_gone_is_not_the_loras_fault(
    settings: Settings, storage: Storage, base: InstalledBase, tmp_path: Path
) -> None:
    (tmp_path / "diffusion_models").mkdir()
    for data in (None, b"no weights"):
        if data is not None:
            (tmp_path / "diffusion_models" / base.unet_name).write_bytes(data)
        with pytest.raises(UnavailableError) as caught:
            await keep(storage, replace(base, models_dir=tmp_path), "me", _file(tmp_path, tiny_lora()))
        assert (caught.value.code, caught.value.value) == ("base_model_not_installed", "flux-tiny")


async def test_versions_count_the_loras_of_one_name(
    sessions: Sessions, storage: Storage, base: InstalledBase, tmp_path: Path
) -> None:
    kept = await keep(storage, base, "me", _file(tmp_path, tiny_lora()))
    async with sessions.begin() as session:
        rows = [await add_model(session, kept, name=name, base=base, metadata={"steps": 20}) for name in "aab"]
        assert [(row.name, row.version) for row in rows] == [("a", 1), ("a", 2), ("b", 1)]
        assert rows[0].model_metadata == {
            "sha256": kept.stored.sha256,
            "size_bytes": kept.stored.size,
            "rank": 4,
            "modules": 1,
            "steps": 20,
        }


async def test_an_import_whose_storage_fails_leaves_no_row(
    sessions: Sessions, storage: Storage, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StorageError("No answer.")

    monkeypatch.setattr(storage, "put_file", fail)
    form = ImportForm(name="me", base_model="flux-tiny")
    async with sessions.begin() as session:
        with pytest.raises(StorageError):
            await lora_intake.register(sessions, session, storage, settings, form, _file(tmp_path, tiny_lora()))
        assert not session.new


async def test_an_import_for_a_base_model_that_is_not_here_is_unavailable(
    sessions: Sessions, storage: Storage, settings: Settings, tmp_path: Path
) -> None:
    bare = with_values(settings, masuka_engines_dir=tmp_path / "no-engines")
    form = ImportForm(name="me", base_model="flux-tiny")
    async with sessions.begin() as session:
        with pytest.raises(UnavailableError):
            await lora_intake.register(sessions, session, storage, bare, form, _file(tmp_path, tiny_lora()))
