import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from api.engines import flux_tiny, locate
from api.engines.catalogue import FLUX_TINY
from api.engines.flux_tiny import EMBEDDINGS
from api.engines.install import install
from api.engines.safetensors_file import is_complete, read_shapes
from api.errors import InstallError, UnavailableError
from api.settings import Settings
from tests.engines import small_engine

pytestmark = pytest.mark.engines
CLIP, T5 = EMBEDDINGS


def silent(name: str, stage: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def made(tmp_path: Path, settings: Settings) -> Path:
    flux_tiny.make(tmp_path / "flux-tiny", locate.comfyui(settings).source)
    return tmp_path / "flux-tiny"


def test_numbers_are_drawn_as_torch_draws_them():
    # torch 2.13.0, manual_seed(1234), the first row of the embedding that the transformer was trained with
    np.testing.assert_allclose(flux_tiny.draw(T5)[0, :4], [-1.0156, 1.7422, -1.2422, 0.6484], rtol=2**-8)


def test_another_embedding_than_the_trained_one_is_refused():
    with pytest.raises(InstallError, match="text_encoder_2") as error:
        flux_tiny.checked_bytes(replace(T5, seed=T5.seed + 1))
    assert error.value.code == "flux_tiny_mismatch"


def test_floats_round_to_bf16_as_processors_do():
    values = np.array([1.0, -2.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.14159], dtype=np.float32)
    back = (flux_tiny.to_bf16(values).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1.0, -2.0, 1.0, 1 + 2**-6, 3.140625]


def test_all_weights_are_whole_and_both_engines_share_them(made: Path):
    for source, link in FLUX_TINY.links:
        assert is_complete(made / source)
        assert (made / source).samefile(made / link)
    assert read_shapes(made / "diffusers/text_encoder_2/model.safetensors")[T5.tensor].shape == (32_128, 64)
    assert read_shapes(made / "diffusers/text_encoder/model.safetensors")[CLIP.tensor].shape == (49_408, 32)


def test_the_pipeline_folder_holds_every_part_its_index_names(made: Path):
    index = json.loads((made / "diffusers/model_index.json").read_text())
    parts = {name for name, entry in index.items() if isinstance(entry, list) and entry[0]}
    assert parts == {path.name for path in (made / "diffusers").iterdir() if path.is_dir()}
    assert not list(made.rglob("layers.safetensors"))


def test_tokenizers_know_how_much_their_encoders_take(made: Path):
    lengths = {
        name: json.loads((made / "diffusers" / name / "tokenizer_config.json").read_text())["model_max_length"]
        for name in ("tokenizer", "tokenizer_2")
    }
    assert lengths == {"tokenizer": 77, "tokenizer_2": 512}


def test_it_is_made_twice_alike(made: Path, tmp_path: Path, settings: Settings):
    again = tmp_path / "again"
    flux_tiny.make(again, locate.comfyui(settings).source)
    for path in made.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(made)).read_bytes(), path


@pytest.fixture
def small(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Another engines folder, for a ComfyUI that is installed in a second and has the real tokenizers."""
    engine = small_engine.make(tmp_path, monkeypatch)
    (engine.checkout / "comfy").symlink_to(locate.comfyui(settings).source / "comfy")
    return engine.settings


def test_installing_it_brings_the_comfyui_it_needs(small: Settings):
    assert locate.installed_bases(small) == []
    assert install(small, "flux-tiny", silent) is True
    assert install(small, "flux-tiny", silent) is False
    assert locate.installed_bases(small) == ["flux-tiny"]
    base = locate.base_model(small, "flux-tiny")
    assert (base.models_dir / "diffusion_models" / base.unet_name).is_file()
    assert (base.models_dir / "text_encoders" / base.clip_l_name).is_file()
    assert (base.models_dir / "text_encoders" / base.t5xxl_name).is_file()
    assert (base.models_dir / "vae" / base.vae_name).is_file()
    assert (base.family, base.weight_dtype) == ("flux", "default")
    assert [(nodes / "__init__.py").is_file() for nodes in base.custom_nodes] == [True]


def test_what_an_interrupted_installation_left_is_replaced(small: Settings):
    folder = small.engines_dir / "flux-tiny"
    for left_over in (folder / ".new" / "diffusers", folder / "diffusers" / "vae"):
        left_over.mkdir(parents=True)
        (left_over / "half").touch()
    with pytest.raises(UnavailableError, match="masuka install flux-tiny") as error:
        locate.base_model(small, "flux-tiny")
    assert error.value.code == "base_model_not_installed"
    install(small, "flux-tiny", silent)
    assert not list(folder.rglob("half"))
    assert not (folder / ".new").exists()


def test_a_lost_file_is_brought_back(small: Settings):
    install(small, "flux-tiny", silent)
    base = locate.base_model(small, "flux-tiny")
    (base.models_dir / "vae" / base.vae_name).unlink()
    assert install(small, "flux-tiny", silent) is True
    assert (base.models_dir / "vae" / base.vae_name).is_file()
