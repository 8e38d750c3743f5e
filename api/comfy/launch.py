"""How ComfyUI is started: command line, environment and search paths, decided without touching anything."""

from collections.abc import Mapping
from pathlib import Path

from api.domain.engine import ComfyInstall
from api.settings import Settings

_CHILD = Path(__file__).with_name("child.py")
# ComfyUI and its custom nodes are other people's programs: our settings, secrets among them, are not for them.
_WITHHELD = frozenset(name.upper() for name in Settings.model_fields)
_WITHHELD_PREFIX = "AWS_"
# These would make it load our packages instead of its own.
_MISLEADING = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})
_MODEL_FOLDERS = ("diffusion_models", "text_encoders", "vae")


# ComfyUI decides at its start whether it makes previews. These come from the latent alone, without weights of their
# own, and leave the picture as it is; whether anybody sees them is decided later.
_PREVIEWS = ("--preview-method", "latent2rgb", "--preview-size", "256")

# The pinned ComfyUI's --lowvram puts only the text encoders elsewhere; --novram lets the weights of every model pass
# through the GPU layer by layer, which leaves nearly all of it to the computing. Without a GPU all that
# can be spared are the results that ComfyUI keeps for the next prompt.
_LIGHT_GPU = "--novram"
_LIGHT_CPU = "--cache-none"


def command(
    install: ComfyInstall, base_dir: Path, search_paths: Path, port: int, parent_pid: int, *, light: bool = False
) -> list[str]:
    """Loopback only, nothing from the internet, nothing written outside `base_dir`.

    `light`: slower, with as little memory as it can be done with.
    """
    return [
        *(str(install.python), "-I", "-S", str(_CHILD), str(parent_pid), str(install.source / "main.py")),
        *("--listen", "127.0.0.1", "--port", str(port)),
        *("--base-directory", str(base_dir)),
        *("--extra-model-paths-config", str(search_paths)),
        *("--database-url", "sqlite:///:memory:"),
        *_PREVIEWS,
        *("--disable-api-nodes", "--disable-auto-launch"),
        *(() if install.gpu else ("--cpu",)),
        *((_LIGHT_GPU if install.gpu else _LIGHT_CPU,) if light else ()),
    ]


def environment(install: ComfyInstall, environ: Mapping[str, str], cpu_count: int) -> dict[str, str]:
    """Ours without what ComfyUI must not see; without a GPU half the cores, because more threads only get in each
    other's way (measured: 0.58 s with two threads on two loaded cores, 0.09 s with one)."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _WITHHELD and name not in _MISLEADING and not name.startswith(_WITHHELD_PREFIX)
    }
    if not install.gpu:
        kept.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count // 2)))
    return {**kept, "PYTHONUNBUFFERED": "1", **install.env}


def search_paths(models_dir: Path, nodes_dir: Path) -> dict[str, dict[str, str]]:
    """The content of `extra_model_paths.yaml`, in the shape that ComfyUI's `utils/extra_config.py` reads."""
    return {
        "base": {"base_path": str(models_dir), **{name: name for name in _MODEL_FOLDERS}},
        "nodes": {"custom_nodes": str(nodes_dir)},
    }
