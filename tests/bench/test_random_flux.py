"""The FLUX of random weights: laid out as an installed one, and of the published size."""

import json
import subprocess
from pathlib import Path

import pytest

from api.engines import locate
from api.engines.catalogue import FLUX_DEV
from api.engines.safetensors_file import read_shapes
from api.settings import Settings
from tests.bench.random_flux import MAKER, REAL, make

pytestmark = [pytest.mark.engines, pytest.mark.timeout(240)]

COUNT = """
import json, sys
from pathlib import Path
from make_random_flux import PARTS, without_memory
models = {part: without_memory(part, Path(sys.argv[1]), json.loads(sys.argv[2])) for part in PARTS}
print(json.dumps({part: sum(weight.numel() for weight in model.parameters()) for part, model in models.items()}))
"""
PUBLISHED = {
    part: sum(file.size_bytes for file in FLUX_DEV.shared_files if Path(file.path).match(f"{part}/*.safetensors"))
    for part in REAL
}
"""Bytes of each part, with two a parameter and the files' headers."""


def test_it_has_the_parameters_that_are_published(engines_dir: Path) -> None:
    settings = Settings(_env_file=None, masuka_engines_dir=engines_dir)
    words: list[str | Path] = [
        locate.simpletuner(settings).python,
        "-c",
        COUNT,
        engines_dir / "flux-tiny/diffusers",
        json.dumps(REAL),
    ]

    told = subprocess.run(words, cwd=MAKER.parent, check=True, capture_output=True, text=True).stdout

    counts = json.loads(told.splitlines()[-1])
    assert {part: 2 * count for part, count in counts.items()} == pytest.approx(PUBLISHED, rel=1e-3)


def test_it_is_installed_beside_the_engines_with_the_files_that_both_read(
    tmp_path: Path, engines_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASUKA_ENGINES_DIR", str(engines_dir))

    make(tmp_path / "engines", sizes={})

    settings = Settings(_env_file=None, masuka_engines_dir=tmp_path / "engines")
    base, tiny = (locate.base_model(settings, name) for name in ("flux-dev", "flux-tiny"))
    assert locate.comfyui(settings).python.exists()
    for folder, name, same in (
        ("diffusion_models", base.unet_name, tiny.unet_name),
        ("text_encoders", base.clip_l_name, tiny.clip_l_name),
        ("text_encoders", base.t5xxl_name, tiny.t5xxl_name),
        ("vae", base.vae_name, tiny.vae_name),
    ):
        made, known = (read_shapes(each.models_dir / folder / file) for each, file in ((base, name), (tiny, same)))
        assert {key: info.shape for key, info in made.items()} == {key: info.shape for key, info in known.items()}
