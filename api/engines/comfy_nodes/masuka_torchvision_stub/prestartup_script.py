"""Lets ComfyUI start without torchvision; ComfyUI runs this before it imports its own nodes.

`comfy/sd.py` imports torchvision unconditionally (stage_c_coder, cosmos, music_dcae), although nothing on the way from
a Flux or Wan model to a saved file uses it. Where a working torchvision is installed this does nothing.
"""

import importlib.machinery
import sys
import types


def works() -> bool:
    """Whether torchvision imports; one built for another torch raises RuntimeError and leaves half of itself behind."""
    try:
        import torchvision  # noqa: F401, PLC0415  to import it is the question
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


class Missing:
    """What the stub has in place of a transform or a network."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError("this node needs torchvision, which is not installed on this machine")


def module(name: str, **content: object) -> types.ModuleType:
    stub = types.ModuleType(name)
    stub.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    stub.__path__ = []
    vars(stub).update(content)
    sys.modules[name] = stub
    return stub


def install() -> None:
    names = ("Compose", "Normalize", "Resize", "ToTensor", "InterpolationMode")
    functional = module("torchvision.transforms.functional")
    transforms = module("torchvision.transforms", functional=functional, **dict.fromkeys(names, Missing))
    models = module("torchvision.models", efficientnet_v2_s=Missing)
    module("torchvision", transforms=transforms, models=models, __version__="0")


if not works():
    install()
