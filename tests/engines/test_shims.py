"""What lets the engines start with less than upstream declares, in a Python that has none of it."""

import os
import subprocess
import sys
from pathlib import Path

import api.engines
from api.engines.try_out import environment

FOLDER = Path(api.engines.__file__).parent
STUB = FOLDER / "comfy_nodes" / "masuka_torchvision_stub" / "prestartup_script.py"


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
