"""Where the installed engines, base models and captioners are. Reads receipts and file headers; starts nothing."""

import json
from pathlib import Path

from api.domain.captioning import CaptionerName
from api.domain.engine import ComfyInstall, InstalledBase, InstalledCaptioner, TrainerInstall
from api.engines import catalogue, engines, receipt
from api.engines.captioners import CAPTIONERS, FOLDER
from api.engines.catalogue import BaseModel, Weights
from api.engines.receipt import Receipt
from api.engines.safetensors_file import read_shapes
from api.errors import UnavailableError
from api.settings import Settings

TINY_NODES = Path(__file__).with_name("comfy_nodes") / "masuka_tiny_models"
MODEL_SUFFIXES = frozenset({".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"})
"""Of the files that ComfyUI lists; hidden ones are none, as they have no other suffix."""
TRANSFORMER = "diffusion_pytorch_model.safetensors"


def comfyui(settings: Settings) -> ComfyInstall:
    """Raises UnavailableError `engine_not_installed`."""
    found = _engine(settings, "comfyui")
    if settings.comfyui_path and Path(found.source) != settings.comfyui_path:
        raise _not_installed("comfyui", f"for COMFYUI_PATH={settings.comfyui_path}")
    return engines.comfyui_install(found)


def simpletuner(settings: Settings) -> TrainerInstall:
    """Raises UnavailableError `engine_not_installed`."""
    found = _engine(settings, "simpletuner")
    if settings.simpletuner_dir and not Path(found.source).is_relative_to(settings.simpletuner_dir):
        raise _not_installed("simpletuner", f"for SIMPLETUNER_PATH={settings.simpletuner_dir}")
    return engines.trainer_install(found)


def base_model(settings: Settings, name: str) -> InstalledBase:
    """Raises InputError `base_model_unknown`, UnavailableError `base_model_not_installed`."""
    base = catalogue.get(name)
    folder = settings.engines_dir / name
    found = receipt.read(folder)
    if found is None or not (folder / "diffusers" / "model_index.json").is_file():
        raise UnavailableError(
            f"The base model {name} is not installed.",
            code="base_model_not_installed",
            value=name,
            hint=f"Run `masuka install {name}`.",
        )
    return _installed_base(base, folder, Weights(found.weights))


def installed_bases(settings: Settings) -> list[str]:
    """Names of the catalogue's base models whose installation is finished."""
    return [name for name in catalogue.BASE_MODELS if receipt.read(settings.engines_dir / name)]


def captioner(settings: Settings, name: CaptionerName) -> InstalledCaptioner:
    """Raises UnavailableError `captioner_not_installed`."""
    folder = settings.engines_dir / name
    found = receipt.read(folder)
    if found is None or not (folder / FOLDER / "config.json").is_file():
        raise captioner_not_installed(name)
    return InstalledCaptioner(name, folder / FOLDER, found.version)


def captioner_not_installed(name: CaptionerName) -> UnavailableError:
    return UnavailableError(
        f"The captioner {name} is not installed.",
        code="captioner_not_installed",
        value=name.value,
        hint=f"Run `masuka install {name}`.",
    )


def installed_captioners(settings: Settings) -> list[str]:
    """Names of the captioners whose installation is finished."""
    return [name.value for name in CAPTIONERS if receipt.read(settings.engines_dir / name)]


def model_files(settings: Settings) -> dict[str, dict[str, list[str]]]:
    """For each installed base model, what ComfyUI finds in its folders of models."""
    own = settings.masuka_data_dir / "comfyui" / "models"
    return {name: _files_below(own, settings.engines_dir / name / "models") for name in installed_bases(settings)}


def _files_below(*roots: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for root in roots:
        for path in root.glob("*/**/*"):
            if path.suffix.lower() in MODEL_SUFFIXES:
                folder, *rest = path.relative_to(root).parts
                found.setdefault(folder, []).append("/".join(rest))
    return found


def clip_merges(settings: Settings) -> Path | None:
    """`merges.txt` of CLIP's vocabulary, which is everywhere the same; None where nothing is installed that has it."""
    bases = (settings.engines_dir / name / "diffusers" / "tokenizer" for name in catalogue.BASE_MODELS)
    comfyui = settings.comfyui_path or settings.engines_dir / "comfyui" / "source"
    folders = (*bases, comfyui / "comfy" / "sd1_tokenizer")
    return next((path for folder in folders if (path := folder / "merges.txt").is_file()), None)


def base_lora_targets(base: InstalledBase) -> dict[str, tuple[int, int]]:
    """Every linear layer of the transformer, by diffusers' name: (out_features, in_features).

    Reads only the headers of the transformer's files. Raises UnavailableError `base_model_not_installed` when they are
    gone, EngineError `weights_unreadable` when they are damaged.
    """
    folder = base.diffusers_dir / "transformer"
    index = folder / f"{TRANSFORMER}.index.json"
    try:
        files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.is_file() else [TRANSFORMER]
        tensors = {name: info for file in files for name, info in read_shapes(folder / file).items()}
    except FileNotFoundError as exc:
        raise UnavailableError(
            f"The transformer of {base.name} is gone: there is no {exc.filename}.",
            code="base_model_not_installed",
            value=base.name,
            hint=f"Run `masuka install {base.name}`.",
        ) from exc
    return {
        name.removesuffix(".weight"): (info.shape[0], info.shape[1])
        for name, info in tensors.items()
        if name.endswith(".weight") and len(info.shape) == 2
    }


def _engine(settings: Settings, name: str) -> Receipt:
    found = receipt.read(settings.engines_dir / name)
    if found is None or not Path(found.python).exists() or not Path(found.source).exists():
        raise _not_installed(name)
    return found


def _not_installed(name: str, detail: str = "") -> UnavailableError:
    return UnavailableError(
        f"{name} is not installed{' ' if detail else ''}{detail}.",
        code="engine_not_installed",
        value=name,
        hint=f"Run `masuka install {name}`.",
    )


def _installed_base(base: BaseModel, folder: Path, weights: Weights) -> InstalledBase:
    def file_name(prefix: str) -> str:
        (name,) = (Path(file).name for file in base.comfy_files(weights) if file.startswith(prefix))
        return name

    return InstalledBase(
        name=base.name,
        family=base.family,
        diffusers_dir=folder / "diffusers",
        models_dir=folder / "models",
        unet_name=file_name("diffusion_models/"),
        clip_l_name=file_name("text_encoders/clip_l"),
        t5xxl_name=file_name("text_encoders/t5xxl"),
        vae_name=file_name("vae/"),
        weight_dtype="fp8_e4m3fn" if weights is Weights.FP8 else "default",
        custom_nodes=(TINY_NODES,) if base is catalogue.FLUX_TINY else (),
    )
