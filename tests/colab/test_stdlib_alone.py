"""The notebook's Python has none of our packages: what it imports needs the standard library alone."""

import pkgutil
import subprocess
import sys

import api.colab
from api.settings import PROJECT_ROOT

BY_THE_SERVICE = {"facts"}


def test_every_module_that_a_notebook_imports_needs_no_package() -> None:
    names = [found.name for found in pkgutil.iter_modules(api.colab.__path__) if found.name not in BY_THE_SERVICE]
    assert len(names) > 10
    imports = "\n".join(f"import api.colab.{name}" for name in names)
    # -I -S: no environment, no site-packages.
    program = f"import sys\nsys.path.insert(0, {str(PROJECT_ROOT)!r})\n{imports}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
