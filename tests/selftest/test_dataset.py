"""The dataset teaches the trigger word one thing only, and the service takes every file of it as it is."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image

from api.domain.training import FluxDefaults, FluxTrainingRequest
from api.domain.upload import IncomingFile, UploadLimits
from api.intake.run import run_intake
from api.selftest.concept import TRIGGER_WORD
from api.selftest.dataset import TrainingRecipe, make_dataset
from api.selftest.measure import measure
from api.selftest.shapes import COLOURS
from api.settings import Settings


@pytest.fixture
def dataset(tmp_path: Path) -> list[Path]:
    return make_dataset(tmp_path / "new" / "dataset")


def _captioned(files: list[Path]) -> list[tuple[Image.Image, str]]:
    pairs = []
    for file in files:
        if file.suffix == ".png":
            with Image.open(file) as opened:
                pairs.append((opened.copy(), file.with_suffix(".txt").read_text()))
    return pairs


def test_every_picture_has_its_caption_beside_it(dataset: list[Path]) -> None:
    pictures = [file for file in dataset if file.suffix == ".png"]

    assert len(pictures) == 44
    assert dataset == [file for picture in pictures for file in (picture, picture.with_suffix(".txt"))]
    assert sorted(dataset[0].parent.iterdir()) == sorted(dataset)


def test_the_trigger_word_captions_the_character_and_nothing_else(dataset: list[Path]) -> None:
    for picture, caption in _captioned(dataset):
        assert measure(picture).shows_character == (TRIGGER_WORD in caption), caption


def test_the_character_stands_on_every_background_and_its_caption_says_which(dataset: list[Path]) -> None:
    shown = [(measure(picture), caption) for picture, caption in _captioned(dataset) if TRIGGER_WORD in caption]

    assert len(shown) == 20
    assert {seen.background for seen, _ in shown} == set(COLOURS)
    for seen, caption in shown:
        assert caption.removeprefix("a photo of ").removeprefix("a picture of ") == (
            f"{TRIGGER_WORD} on a {seen.background} background"
        )


def test_half_of_the_other_pictures_have_a_word_that_means_nothing(dataset: list[Path]) -> None:
    others = [caption for _, caption in _captioned(dataset) if TRIGGER_WORD not in caption]
    named = [caption for caption in others if any(f"{colour} " in caption.split(" on ")[0] for colour in COLOURS)]

    assert (len(others), len(named)) == (24, 12)


def test_a_seed_is_a_dataset(tmp_path: Path, dataset: list[Path]) -> None:
    again, other = make_dataset(tmp_path / "again"), make_dataset(tmp_path / "other", seed=12)

    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in dataset]
    assert [file.read_bytes() for file in other] != [file.read_bytes() for file in dataset]


async def test_the_service_takes_every_file_and_keeps_every_caption(
    tmp_path: Path, dataset: list[Path], settings: Settings
) -> None:
    captions = {file.stem: file.read_text() for file in dataset if file.suffix == ".txt"}
    files = [IncomingFile(file.name, file, file.stat().st_size) for file in dataset]

    intake = await run_intake(files, UploadLimits.of(settings), tmp_path / "work")

    assert [entry for entry in intake.report if entry.code] == []
    assert {Path(image.original_name).stem: image.caption for image in intake.images} == captions


def test_the_recipe_is_a_training_request_that_leaves_nothing_to_the_installation() -> None:
    recipe = TrainingRecipe()
    some = FluxDefaults(learning_rate=1e-4, steps=2000, rank=32, alpha=16, resolution=1024)

    config = FluxTrainingRequest.model_validate(asdict(recipe)).resolve(some)

    assert {name: getattr(config, name) for name in asdict(recipe)} == asdict(recipe)
    assert config == FluxTrainingRequest.model_validate(asdict(recipe)).resolve(
        replace(some, learning_rate=1, steps=1, rank=1, alpha=1, resolution=64)
    )
