"""What lets the engines start with less than upstream declares, in a Python that has none of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import api.engines
from api.domain.engine import ComfyInstall
from api.engines.try_out import environment

FOLDER = Path(api.engines.__file__).parent
STUB = FOLDER / "comfy_nodes" / "masuka_torchvision_stub" / "prestartup_script.py"
TINY_MODELS = FOLDER / "comfy_nodes" / "masuka_tiny_models"
REAL_SIZES = Path(__file__).with_name("real_sizes.py")


def python(code: str) -> str:
    env = os.environ | {"PYTHONPATH": str(FOLDER / "shims")}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_a_missing_package_becomes_a_stub_with_whatever_is_asked_of_it():
    code = """
import masuka_trainer_shim
import spacy.lang.en
from librosa.filters import mel
from soundfile import LibsndfileError
print(mel(16_000).__class__.__name__, issubclass(LibsndfileError, Exception), issubclass(mel, Exception))
"""
    assert python(code) == "mel True False\n"


def test_an_installed_package_is_never_a_stub():
    assert python("import masuka_trainer_shim, boto3; print(boto3.client.__module__)") == "boto3\n"


def test_other_missing_packages_stay_missing():
    code = "import masuka_trainer_shim\ntry: import no_such_package\nexcept ModuleNotFoundError: print('missing')"
    assert python(code) == "missing\n"


def test_starting_a_python_with_the_shim_imports_nothing_large():
    assert python("import sys, masuka_trainer_shim; print('torch' in sys.modules)") == "False\n"


def test_without_torchvision_comfyui_s_imports_of_it_succeed_and_its_use_says_what_is_missing():
    code = f"""
import runpy
runpy.run_path({str(STUB)!r})
import torchvision
from torchvision import transforms
from torchvision.transforms import functional
from torchvision.models import efficientnet_v2_s
try:
    transforms.Normalize(mean=1, std=1)
except RuntimeError as error:
    print(error)
"""
    assert python(code) == "this node needs torchvision, which is not installed on this machine\n"


def test_a_torchvision_that_works_is_left_alone(tmp_path: Path):
    (tmp_path / "torchvision.py").write_text("__version__ = 'real'")
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(STUB)!r})"
    assert python(f"{code}; import torchvision; print(torchvision.__version__)") == "real\n"


def test_engines_are_not_told_our_secrets():
    told = environment({"HF_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "y", "PATH": "/bin", "PYTHONPATH": "/z"})
    assert told == {"PATH": "/bin"}


@pytest.mark.engines
@pytest.mark.timeout(240)  # most of it is importing ComfyUI, which takes long on a machine that is busy
def test_models_of_real_size_load_with_the_shim_as_without_it(comfy_install: ComfyInstall):
    command = [str(comfy_install.python), str(REAL_SIZES), str(STUB.parent), str(TINY_MODELS)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=comfy_install.source, env=env, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)

    assert told["replaced"] == [True] * 4, "the shim patches ComfyUI by other names"
    assert told["after"] == told["before"]
    transformer, text, vae = (told["before"][name] for name in ("transformer", "text encoders", "vae"))
    assert (transformer["parameters"], transformer["tensors"], transformer["heads"]) == (11_901_408_320, 780, [24])
    assert (text["parameters"], text["heads"]) == (4_885_960_962, [12, 64])
    assert (vae["parameters"], vae["tensors"], vae["groups"]) == (83_819_683, 244, [32])
    assert told["before"]["vae of diffusers"] == vae
