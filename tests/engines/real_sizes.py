"""Run under ComfyUI's Python, in its folder: what it makes of FLUX.1-dev's files, before and after a shim is loaded.

    python real_sizes.py STUB SHIM

The files are state dicts of the published sizes on torch's meta device: each name and shape of 17 billion parameters,
and no memory. They are loaded by the functions that ComfyUI's loader nodes call; what is told of each, as JSON, is how
its model was built. STUB stands in for a torchvision that is missing.
"""

import hashlib
import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

STUB, SHIM = map(Path, sys.argv[1:])
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, str(Path.cwd()))
runpy.run_path(str(STUB / "prestartup_script.py"))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import comfy.sd  # noqa: E402
import torch  # noqa: E402
from comfy import model_detection  # noqa: E402
from comfy.clip_model import CLIPTextModel  # noqa: E402
from comfy.diffusers_convert import vae_conversion_map, vae_conversion_map_attn  # noqa: E402
from comfy.ldm.flux.model import Flux  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencodingEngine  # noqa: E402
from comfy.text_encoders import long_clipl  # noqa: E402
from comfy.text_encoders.t5 import T5  # noqa: E402

META = torch.device("meta")
LAYERS = {"device": META, "operations": comfy.ops.disable_weight_init}
StateDict = Any
"""Names and tensors."""


def transformer() -> StateDict:
    sizes = {"in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768, "context_in_dim": 4096}
    blocks = {"hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38}
    rest = {"axes_dim": [16, 56, 56], "theta": 10_000, "qkv_bias": True, "guidance_embed": True}
    return Flux(**sizes, **blocks, **rest, dtype=torch.bfloat16, **LAYERS).state_dict()


def clip() -> StateDict:
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    rest = {"hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49_407}
    return CLIPTextModel(sizes | rest, torch.float16, **LAYERS).state_dict()


def t5() -> StateDict:
    sizes = {"d_model": 4096, "d_ff": 10_240, "d_kv": 64, "num_layers": 24, "num_heads": 64, "vocab_size": 32_128}
    rest = {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "t5"}
    return T5(sizes | rest, torch.float16, **LAYERS).state_dict()


def vae() -> StateDict:
    blocks = {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    sizes = {**blocks, "double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3}
    parts = {
        f"{part.lower()}_config": {"target": f"comfy.ldm.modules.diffusionmodules.model.{part}", "params": sizes}
        for part in ("Encoder", "Decoder")
    }
    regularizer = {"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"}
    return AutoencodingEngine(regularizer_config=regularizer, **parts).state_dict()


def as_diffusers(weights: StateDict) -> StateDict:
    """The other layout in which VAEs are published; ComfyUI converts it back."""
    attention = [
        pair for pair in vae_conversion_map_attn if pair[1] in ("group_norm.", "to_q.", "to_k.", "to_v.", "to_out.0.")
    ]
    named = {}
    for key, tensor in weights.items():
        name = key
        for ours, theirs in vae_conversion_map:
            name = name.replace(ours, theirs)
        for ours, theirs in attention if ".attentions." in name else ():
            name = name.replace(f".0.{ours}", f".0.{theirs}")
        named[name] = tensor[..., 0, 0] if ".attentions." in name and tensor.ndim == 4 else tensor
    return named


def built(model: torch.nn.Module) -> dict[str, Any]:
    modules, weights = list(model.modules()), model.state_dict()
    shapes = {name: [*value.shape] for name, value in weights.items()}
    heads = {getattr(m, name) for m in modules for name in ("heads", "num_heads") if hasattr(m, name)}
    return {
        "parameters": sum(value.numel() for value in weights.values()),
        "tensors": len(shapes),
        "heads": sorted(heads),
        "groups": sorted({m.num_groups for m in modules if isinstance(m, torch.nn.GroupNorm)}),
        "structure": hashlib.sha256(f"{model}{shapes}".encode()).hexdigest(),
    }


def load_all() -> dict[str, Any]:
    flux = comfy.sd.load_diffusion_model_state_dict(dict(transformer())).model
    text = comfy.sd.load_text_encoder_state_dicts(
        [dict(clip()), dict(t5())], clip_type=comfy.sd.CLIPType.FLUX, model_options={"initial_device": META}
    )
    codec = vae()
    return {
        "transformer": built(flux.diffusion_model) | {"config": flux.model_config.unet_config},
        "text encoders": built(text.cond_stage_model),
        "vae": built(comfy.sd.VAE(sd=dict(codec)).first_stage_model),
        "vae of diffusers": built(comfy.sd.VAE(sd=dict(as_diffusers(codec))).first_stage_model),
    }


def patched() -> list[object]:
    """What the shim is to replace."""
    return [
        model_detection.detect_unet_config,
        long_clipl.model_options_long_clip,
        comfy.sd.VAE.__init__,
        comfy.sd.AutoencodingEngine,
    ]


def main() -> None:
    torch.nn.Module.to = lambda module, *_, **__: module  # what holds nothing cannot be moved
    original = patched()
    with META:
        before = load_all()
        sys.path.append(str(SHIM.parent))
        importlib.import_module(SHIM.name)
        after = load_all()
    replaced = [now is not then for now, then in zip(patched(), original, strict=True)]
    sys.stdout.write(json.dumps({"replaced": replaced, "before": before, "after": after}, default=str))


if __name__ == "__main__":
    main()
