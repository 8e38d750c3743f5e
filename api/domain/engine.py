"""What the rest of MASUKA knows of an installed engine or base model: plain values, made by `engines/locate.py`."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ComfyInstall:
    """A ComfyUI that can be started: `python source/main.py`."""

    source: Path
    python: Path
    version: str
    gpu: bool
    """Whether its torch can use a GPU; without one ComfyUI is started with `--cpu`."""
    custom_nodes: tuple[Path, ...] = ()
    """Folders of custom nodes that this machine's ComfyUI always needs."""
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainerInstall:
    """A SimpleTuner that can be started: `python train_py`."""

    python: Path
    train_py: Path
    version: str
    gpu: bool
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstalledCaptioner:
    """A captioner whose files are all there."""

    name: str
    folder: Path
    """Configuration, tokenizer and weights, as transformers reads them."""
    revision: str
    """The commit that they are of."""


@dataclass(frozen=True, slots=True)
class InstalledBase:
    """A base model whose files are all there, for both engines."""

    name: str
    family: str
    """`flux`: what decides the trainer configuration and the workflow template."""
    diffusers_dir: Path
    """The diffusers pipeline folder that SimpleTuner reads."""
    models_dir: Path
    """Holds `diffusion_models/ text_encoders/ vae/` with the single files that ComfyUI reads."""
    unet_name: str
    clip_l_name: str
    t5xxl_name: str
    vae_name: str
    weight_dtype: str = "default"
    """`UNETLoader.weight_dtype`: `default` or `fp8_e4m3fn`."""
    custom_nodes: tuple[Path, ...] = ()
    """Folders of custom nodes that only this base model needs (the shims of `flux-tiny`)."""
