"""What a LoRA learns, measured in the pictures that the real ComfyUI draws with what the real SimpleTuner trained.

Two short trainings: one on the demo's dataset, and one on its pictures with their captions shuffled, which must fail
the check that the first one passes.
"""

import asyncio
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from api.domain.engine import InstalledBase, TrainerInstall
from api.domain.training import FluxTrainingRequest
from api.domain.workflow import LoraUse
from api.engines import locate
from api.selftest.dataset import TrainingRecipe, make_dataset
from api.selftest.measure import measure
from api.selftest.prompts import grid, judge
from api.selftest.sheet import pixel_difference
from api.selftest.training.lexicon import CONTROL_WORDS
from api.settings import Settings
from api.trainer.process import prepare, start
from api.trainer.workdir import Workdir
from tests.engines.comfy_lab import Lab
from tests.engines.simpletuner.trainer_lab import DEFAULTS, follow_to_the_end

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]

STEPS = 100
SAMPLING = {"num_inference_steps": 12, "guidance_scale": 3.5}
SEED = 1000
WITH_WORD = [f"a photo of ohwx on a {background} background" for background in ("blue", "yellow", "green", "white")]
OTHER_WORDS = [f"a photo of {word} on a blue background" for word in sorted(CONTROL_WORDS)]
"""Which neither the base model nor the LoRA was ever given."""
ORDINARY = grid(8)
NO_PINK = 0.001
"""Four pixels of a picture: where two colours meet, one between them may look pink."""


@dataclass(frozen=True)
class Drawn:
    """The same prompts and seeds with one LoRA, or none."""

    with_word: list[Image.Image]
    other_words: list[Image.Image]
    ordinary: list[Image.Image]

    @property
    def pink(self) -> float:
        """The mean share of it in the pictures that were asked for by the word."""
        return _pink(self.with_word)

    @property
    def others_pink(self) -> float:
        """In those of words that nobody has taught."""
        return _pink(self.other_words)

    @property
    def stray_pink(self) -> float:
        """In the ordinary ones."""
        return _pink(self.ordinary)

    @property
    def shows_what_was_learnt(self) -> bool:
        """The character for its word, and for nothing else.

        No two trainings are alike: of five, the word brought .05 to .17 of pink, and all else less than a fiftieth of
        that; with shuffled captions other words or ordinary prompts brought three quarters as much as it, or more.
        """
        return self.pink > 0.02 and max(self.others_pink, self.stray_pink) < self.pink / 4

    @property
    def right(self) -> int:
        """How many of the ordinary pictures show all that they were asked for."""
        return judge(ORDINARY, self.ordinary).all


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def drawn(
    lab: Lab, engines_dir: Path, flux_tiny: InstalledBase, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Drawn]:
    """By what they were drawn with: nothing, the LoRA at half and at full strength, one of shuffled captions."""
    install = locate.simpletuner(Settings(_env_file=None, masuka_engines_dir=engines_dir))
    folder = tmp_path_factory.mktemp("learning")
    true, shuffled = Workdir(folder / "true"), Workdir(folder / "shuffled")
    for workdir in (true, shuffled):
        make_dataset(workdir.dataset)
    _shuffle_captions(shuffled.dataset)
    await asyncio.gather(*(_train(workdir, install, flux_tiny) for workdir in (true, shuffled)))
    async with lab.server.use(lab.base):
        loras = {name: _add(lab, name, workdir) for name, workdir in (("true", true), ("shuffled", shuffled))}
    return {
        "nothing": await _draw(lab, ()),
        "half": await _draw(lab, (LoraUse(loras["true"], 0.5),)),
        "full": await _draw(lab, (LoraUse(loras["true"], 1.0),)),
        "shuffled": await _draw(lab, (LoraUse(loras["shuffled"], 1.0),)),
    }


async def test_the_character_comes_for_its_word_with_the_lora_and_not_without_either(drawn: dict[str, Drawn]) -> None:
    assert drawn["full"].shows_what_was_learnt
    assert drawn["nothing"].pink < NO_PINK
    assert drawn["nothing"].stray_pink < NO_PINK


async def test_the_word_stays_its_own(drawn: dict[str, Drawn]) -> None:
    assert drawn["full"].others_pink < 0.5 * drawn["full"].pink
    assert drawn["nothing"].others_pink < NO_PINK


async def test_half_the_strength_lies_between(drawn: dict[str, Drawn]) -> None:
    nothing, half, full = (drawn[name].with_word for name in ("nothing", "half", "full"))
    way = _difference(nothing, full)
    # In the pictures themselves: at half strength the thing has often not yet the colour that counts as pink.
    assert 0.1 * way < _difference(nothing, half) < way
    assert 0.1 * way < _difference(half, full) < way
    assert drawn["half"].pink < 0.75 * drawn["full"].pink


async def test_most_ordinary_prompts_are_drawn_as_before(drawn: dict[str, Drawn]) -> None:
    assert drawn["nothing"].right >= len(ORDINARY) - 1
    assert drawn["full"].right >= drawn["nothing"].right - 2


async def test_shuffled_captions_teach_nothing_and_the_check_says_so(drawn: dict[str, Drawn]) -> None:
    assert not drawn["shuffled"].shows_what_was_learnt


def _shuffle_captions(dataset: Path) -> None:
    files = sorted(dataset.glob("*.txt"))
    captions = [file.read_text() for file in files]
    random.Random(1).shuffle(captions)
    for file, caption in zip(files, captions, strict=True):
        file.write_text(caption)


async def _train(workdir: Workdir, install: TrainerInstall, base: InstalledBase) -> None:
    choices = asdict(TrainingRecipe()) | {"steps": STEPS, "checkpoint_interval": STEPS}
    config = FluxTrainingRequest.model_validate(choices).resolve(DEFAULTS)
    prepare(workdir, config, base=base, install=install)
    await start(workdir, install, job_id=workdir.root.name)
    run = await follow_to_the_end(workdir)
    assert run.outcome is not None
    assert run.outcome.lora is not None, run.outcome


def _add(lab: Lab, name: str, workdir: Workdir) -> str:
    """Into ComfyUI's folder, by another name than any before it. Its alpha is its rank, which ComfyUI assumes."""
    arriving = shutil.copyfile(workdir.final_lora, lab.folder / "arriving.safetensors")
    return arriving.rename(lab.server.lora_dir / f"learning-{name}.safetensors").name


async def _draw(lab: Lab, loras: tuple[LoraUse, ...]) -> Drawn:
    prompts = [*WITH_WORD, *(prompt.text for prompt in ORDINARY), *OTHER_WORDS]
    async with lab.server.use(lab.base) as client:
        pictures = [
            Image.fromarray((await lab.pixels(client, loras, prompt=text, seed=seed, **SAMPLING)).astype(np.uint8))
            for seed, text in enumerate(prompts, SEED)
        ]
    words, ordinary = len(WITH_WORD), len(ORDINARY)
    return Drawn(pictures[:words], pictures[words + ordinary :], pictures[words : words + ordinary])


def _difference(pictures: Sequence[Image.Image], others: Sequence[Image.Image]) -> float:
    """The mean of what each differs from the one of the same prompt and seed."""
    return float(np.mean([pixel_difference(one, other) for one, other in zip(pictures, others, strict=True)]))


def _pink(pictures: Sequence[Image.Image]) -> float:
    return float(np.mean([measure(picture).pink_fraction for picture in pictures]))
