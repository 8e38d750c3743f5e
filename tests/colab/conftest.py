"""The stand-in for what Colab has, inside the test's own process."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.colab.kernel import STAND_IN

Account = Callable[..., Path]


@pytest.fixture
def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Call it with what Colab offers; the file in which the stand-in notes what it was made to do."""

    def offer(**told: Any) -> Path:
        path = tmp_path / "colab.json"
        path.write_text(json.dumps(told))
        monkeypatch.setenv("COLAB_STAND_IN", str(path))
        monkeypatch.syspath_prepend(str(STAND_IN))
        return path.with_name("colab.json.done")

    forget()
    yield offer
    forget()


def forget() -> None:
    for name in [each for each in sys.modules if each.split(".")[0] == "google"]:
        del sys.modules[name]
