"""What the preflight says is what the real SimpleTuner does: sizes, buckets, frames, repeats, tokens."""

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from api.domain.bucket import place, repeats_needed
from api.domain.clip_tokens import ClipTokens
from api.trainer.simpletuner import major
from tests.engines.simpletuner.trainer_lab import DEFAULTS, Run, TrainerLab

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

PREPARE = Path(__file__).with_name("prepare_pictures.py")
RESOLUTIONS = (64, 128, 448, 512, 704, 768, 960, 1024, 1344, 1408, 1536, 2048)
CAPTIONS = (
    "",
    "ohwx, a photo of a woman's face, f/1.8, 85mm",
    "It’s a “great” day – isn’t it? we're I've they'll he'd I'm 'sun \"'s",
    "Ein Mädchen mit grünen Augen, naïve café e\u0301",
    "東京の夜景、雨 Привет мир हिन्दी भाषा İstanbul straße",
    "emoji 😀👩‍👩‍👧 3.14159 2024-11-22 ½ ² Ⅷ 100%!! #hash @at $5",
    "a &amp; b, <b>&amp;</b> snake_case CamelCase ALLCAPS ...!!!???  ,,,",
    "a" * 300,
    "a photo of a person standing in front of a red brick wall, " * 8,
)


def test_the_trainer_puts_each_picture_where_the_preflight_says(trained: Run) -> None:
    dataset = trained.workdir.dataset
    metadata = json.loads((dataset / "aspect_ratio_bucket_metadata_images.json").read_text())
    indices = json.loads((dataset / "aspect_ratio_bucket_indices_images.json").read_text())["aspect_ratio_bucket_indices"]
    assert len(metadata) == 5
    buckets: Counter[tuple[int, int]] = Counter()
    for path, real in metadata.items():
        with Image.open(path) as picture:
            where = place(*picture.size, DEFAULTS.resolution)
        assert where is not None
        assert [list(where.bucket), list(where.resized)] == [real["target_size"], real["intermediary_size"]]
        buckets[where.bucket] += 1
    assert sorted(buckets.values()) == sorted(len(paths) for paths in indices.values()) == [1, 1, 3]


def test_the_trainer_is_given_the_repeats_that_its_smallest_bucket_needs(trained: Run) -> None:
    (backend,) = (each for each in json.loads(trained.workdir.backends.read_text()) if each["id"] == "images")
    assert backend["repeats"] == repeats_needed([1, 1, 3], 2) == 1


def test_the_trainers_own_code_agrees_for_pictures_and_captions_of_all_kinds(
    trainer_lab: TrainerLab, tmp_path: Path
) -> None:
    tokenizer = trainer_lab.base.diffusers_dir / "tokenizer"
    cases, task, done = _cases(), tmp_path / "task.json", tmp_path / "done.json"
    task.write_text(json.dumps({"cases": cases, "tokenizer": str(tokenizer), "captions": CAPTIONS}))
    env = {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", **trainer_lab.install.env}
    command = [str(trainer_lab.install.python), str(PREPARE), str(task), str(done)]
    subprocess.run(command, check=True, env=env, cwd=tmp_path, capture_output=True)
    real = json.loads(done.read_text())

    ours = [place(*case) for case in cases]
    assert [each and [list(each.bucket), list(each.resized)] for each in ours] == real["placed"]
    assert 0 < ours.count(None) < len(ours) / 10
    tokens = ClipTokens.of((tokenizer / "merges.txt").read_text(encoding="utf-8"))
    tidied = major(trainer_lab.install.version) < 4
    assert [tokens.count(caption, tidied=tidied) for caption in CAPTIONS] == real["tokens"]


def _cases() -> list[tuple[int, int, int]]:
    """Sizes of phones, cameras, crops and slices, at every kind of resolution."""
    draw = random.Random(1)
    cases = []
    for resolution in RESOLUTIONS:
        for _ in range(100):
            width = draw.choice([draw.randint(32, 400), draw.randint(200, 1500), draw.randint(1000, 9000)])
            usual = draw.choice([1, 1.01, 0.99, 1.5, 2 / 3, 16 / 9, 3 / 4, draw.uniform(0.2, 5)])
            aspect = draw.choice([usual, usual, usual, draw.uniform(0.02, 40), draw.uniform(0.001, 0.02)])
            cases.append((width, max(32, int(width / aspect)), resolution))
    return cases
