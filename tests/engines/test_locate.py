"""What is said of the engines that `scripts/test` has really installed, and of what is not there."""

import json
from pathlib import Path

import pytest

from api.domain.engine import InstalledBase
from api.engines import locate
from api.errors import EngineError, InputError, UnavailableError
from api.settings import Settings
from tests.trainer.lora_files import bf16, lora

pytestmark = pytest.mark.engines


@pytest.fixture
def nothing_installed(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, masuka_data_dir=tmp_path)


def sharded_base(folder: Path, shards: dict[str, dict[str, list[int]]]) -> InstalledBase:
    """A base model whose transformer is spread over files, as FLUX.1-dev's is."""
    transformer = folder / "transformer"
    transformer.mkdir(parents=True)
    for name, tensors in shards.items():
        lora(transformer / name, {key: bf16(*shape) for key, shape in tensors.items()})
    weight_map = {key: name for name, tensors in shards.items() for key in tensors}
    (transformer / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return InstalledBase("flux-dev", "flux", folder, folder, "u", "c", "t", "v")


def test_the_installed_comfyui_is_the_pinned_one(settings: Settings):
    install = locate.comfyui(settings)
    assert (install.source / "main.py").is_file()
    assert install.python.is_file()
    assert install.version == "0.3.75"
    assert [(nodes / "prestartup_script.py").is_file() for nodes in install.custom_nodes] == [True]


def test_the_installed_simpletuner_has_its_interpreter_and_its_script(settings: Settings):
    install = locate.simpletuner(settings)
    assert install.python.is_file()
    assert install.train_py.name == "train.py"
    assert install.version in ("3.1.6", "4.8.0")


@pytest.mark.parametrize("find", [locate.comfyui, locate.simpletuner])
def test_an_engine_that_is_not_there_names_the_command_that_brings_it(nothing_installed: Settings, find):
    with pytest.raises(UnavailableError, match=f"masuka install {find.__name__}") as error:
        find(nothing_installed)
    assert (error.value.code, error.value.value) == ("engine_not_installed", find.__name__)


def test_a_base_model_that_is_not_there_names_the_command_that_brings_it(nothing_installed: Settings):
    with pytest.raises(UnavailableError, match="masuka install flux-dev") as error:
        locate.base_model(nothing_installed, "flux-dev")
    assert (error.value.code, error.value.value) == ("base_model_not_installed", "flux-dev")
    assert locate.installed_bases(nothing_installed) == []


def test_an_unknown_base_model_is_bad_input(nothing_installed: Settings):
    with pytest.raises(InputError) as error:
        locate.base_model(nothing_installed, "flux-huge")
    assert error.value.code == "base_model_unknown"


def test_the_layers_a_lora_may_change_are_named_with_their_sizes(settings: Settings):
    targets = locate.base_lora_targets(locate.base_model(settings, "flux-tiny"))
    assert targets["transformer_blocks.0.attn.to_q"] == (128, 128)
    assert targets["transformer_blocks.3.attn.to_out.0"] == (128, 128)
    assert targets["transformer_blocks.0.ff.net.0.proj"] == (512, 128)
    assert targets["single_transformer_blocks.3.proj_out"] == (128, 128 + 512)
    assert targets["context_embedder"] == (128, 64)
    assert not [name for name in targets if name.endswith(("norm_q", "bias"))]


def test_layers_are_found_in_every_shard(tmp_path: Path):
    base = sharded_base(
        tmp_path,
        {
            "a-00001-of-00002.safetensors": {"x.to_q.weight": [8, 4], "x.to_q.bias": [8]},
            "a-00002-of-00002.safetensors": {"x.to_k.weight": [8, 2], "x.norm.weight": [8]},
        },
    )
    assert locate.base_lora_targets(base) == {"x.to_q": (8, 4), "x.to_k": (8, 2)}


def test_a_shard_that_is_gone_or_damaged_is_said_so(tmp_path: Path):
    base = sharded_base(tmp_path, {"a.safetensors": {"x.weight": [8, 4]}})
    shard = tmp_path / "transformer" / "a.safetensors"
    shard.write_bytes(b"cut")
    with pytest.raises(EngineError) as damaged:
        locate.base_lora_targets(base)
    assert damaged.value.code == "weights_unreadable"
    shard.unlink()
    with pytest.raises(UnavailableError, match="masuka install flux-dev") as gone:
        locate.base_lora_targets(base)
    assert gone.value.code == "base_model_not_installed"
