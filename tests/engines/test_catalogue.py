import pytest

from api.engines import catalogue
from api.engines.catalogue import BASE_MODELS, FLUX_DEV, FLUX_DEV_REPO, FLUX_TINY, GB, TrainingPrecision, Weights
from api.errors import InputError


@pytest.mark.parametrize(
    ("vram_gb", "weights"),
    [(None, "fp8"), (6, "fp8"), (12, "fp8"), (23.9, "fp8"), (31.9, "fp8"), (32, "bf16"), (79.6, "bf16")],
)
def test_the_weights_fit_the_card(vram_gb: float | None, weights: str):
    assert FLUX_DEV.pick_weights(vram_gb) == weights


@pytest.mark.parametrize(
    ("vram_gb", "fp8", "precision"),
    [
        (None, False, None),
        (8, False, None),
        (11.9, False, "nf4"),
        (15.7, False, "int8"),
        (23.6, False, "int8"),
        (23.6, True, "fp8"),
        (11.9, True, "nf4"),
        (39.4, True, "bf16"),
    ],
)
def test_the_training_precision_fits_the_card(vram_gb: float | None, fp8: bool, precision: str | None):
    assert FLUX_DEV.pick_training_precision(vram_gb, fp8=fp8) == precision


@pytest.mark.parametrize("vram_gb", [None, 4, 80])
def test_flux_tiny_fits_every_machine_as_it_is(vram_gb: float | None):
    assert FLUX_TINY.pick_weights(vram_gb) is Weights.BF16
    assert FLUX_TINY.pick_training_precision(vram_gb) is TrainingPrecision.BF16


@pytest.mark.parametrize("base", BASE_MODELS.values(), ids=lambda base: base.name)
@pytest.mark.parametrize("weights", Weights)
def test_comfyui_gets_one_file_of_each_kind(base: catalogue.BaseModel, weights: Weights):
    if base is FLUX_TINY and weights is Weights.FP8:
        weights = Weights.BF16
    files = sorted(base.comfy_files(weights))
    assert [name.partition("/")[0] for name in files] == ["diffusion_models", "text_encoders", "text_encoders", "vae"]
    assert files[1].startswith("text_encoders/clip_l")
    assert files[2].startswith("text_encoders/t5xxl")


@pytest.mark.parametrize("weights", Weights)
def test_no_two_downloads_of_flux_dev_meet_in_one_file(weights: Weights):
    targets = [file.target for file in FLUX_DEV.files(weights)] + [link for _, link in FLUX_DEV.links]
    assert len(set(targets)) == len(targets)
    assert {source for source, _ in FLUX_DEV.links} <= set(targets)


def test_the_disk_that_is_named_holds_the_largest_choice():
    largest = max(sum(file.size_bytes for file in FLUX_DEV.files(weights)) for weights in Weights)
    assert largest / GB <= FLUX_DEV.disk_gb <= largest / GB * 1.1


def test_a_gated_model_names_where_its_licence_is_accepted():
    assert FLUX_DEV.licence_url.endswith(FLUX_DEV.gated_repo)
    assert FLUX_DEV.gated_repo == FLUX_DEV_REPO
    assert FLUX_TINY.gated_repo == ""


def test_an_unknown_base_model_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="flux-dev, flux-tiny") as error:
        catalogue.get("flux-huge")
    assert (error.value.code, error.value.value) == ("base_model_unknown", "flux-huge")
    assert catalogue.get("flux-tiny") is FLUX_TINY


@pytest.mark.parametrize(("vram_gb", "needed"), [(80, 31), (24, 15), (10, 9)])
def test_a_training_needs_what_its_precision_does(vram_gb: float, needed: float):
    assert FLUX_DEV.training_gb(vram_gb) == needed


def test_drawing_needs_what_its_weights_do():
    assert [FLUX_DEV.drawing_gb(weights) for weights in (Weights.BF16, Weights.FP8)] == [32, 10]


@pytest.mark.parametrize("vram_gb", [None, 80])
def test_flux_tiny_needs_memory_too_whatever_the_machine(vram_gb: float | None):
    assert 0 < FLUX_TINY.drawing_gb(Weights.BF16) < FLUX_TINY.training_gb(vram_gb) < 4
