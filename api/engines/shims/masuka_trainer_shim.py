"""Lets SimpleTuner import and run with only what a Flux training needs; loaded at start by a `.pth` file of its venv.

1. Packages that only other model families, trackers or cloud storage use are left out of the lock, but 3.1.6 imports
   every family at start: each one that is *missing* becomes an empty stub. An installed one is never touched.
2. The plain torchvision wheel is built for CUDA; next to a CPU torch it imports once two operator schemas are declared.
3. `Tensor.pin_memory` raises where there is no accelerator, and SimpleTuner pins every batch: there it does nothing.

2 and 3 apply only where torch has no CUDA.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

STUBS = {
    "boto3",
    "botocore",
    "hangul_romanize",
    "librosa",
    "num2words",
    "py3langid",
    "pypinyin",
    "skrample",
    "soundfile",
    "soxr",
    "spacy",
    "torchaudio",
    "wandb",
}


class _Stub(types.ModuleType):
    """A module whose every public name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012  what makes Python take it for a package
    __version__ = "0"

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        bases = (Exception,) if name.endswith(("Error", "Exception")) else ()
        cls = type(name, bases, {"__init__": lambda self, *args, **kwargs: None})
        setattr(self, name, cls)
        return cls


class MissingPackages(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last on `sys.meta_path`: asked only for what nobody else found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in STUBS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """A stub has nothing to run."""


class TorchvisionOnCpu(importlib.abc.MetaPathFinder):
    """First on `sys.meta_path`: prepares torch just before torchvision is imported, and finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            prepare_cpu_torch()


def prepare_cpu_torch() -> None:
    """Declare what the CUDA-built torchvision expects, and make pinning a no-op, unless there is CUDA."""
    import torch  # noqa: PLC0415  this module loads at every start of the interpreter, torch only when it is needed

    if torch.cuda.is_available():
        return
    torch.Tensor.pin_memory = _unpinned
    if torch.version.cuda:
        return  # a CUDA build of torch, without a GPU: torchvision's operators load
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _unpinned(tensor: Any, *args: object, **kwargs: object) -> Any:
    return tensor


sys.meta_path.insert(0, TorchvisionOnCpu())
sys.meta_path.append(MissingPackages())
