"""Which base model a request means."""

import pytest

from api.errors import InputError, UnavailableError
from api.models import Model
from api.services import bases
from api.settings import Settings
from tests.service import with_values

BOTH = {"flux-dev", "flux-tiny"}


def _lora(base_model: str) -> Model:
    return Model(name=f"a {base_model} LoRA", base_model=base_model, storage_path="models/a", file_size_mb=1)


@pytest.mark.parametrize(
    ("named", "loras", "setting", "expected"),
    [
        (None, [], "", "flux-dev"),
        (None, [], "flux-tiny", "flux-tiny"),
        ("flux-dev", [], "flux-tiny", "flux-dev"),
        (None, ["flux-tiny", "flux-tiny"], "flux-dev", "flux-tiny"),
        ("flux-tiny", ["flux-tiny"], "flux-dev", "flux-tiny"),
    ],
)
def test_the_named_one_goes_before_the_loras_own_before_the_setting(
    settings: Settings, named: str | None, loras: list[str], setting: str, expected: str
) -> None:
    chosen = with_values(settings, masuka_base_model=setting)
    assert bases.choose(chosen, BOTH, named=named, loras=[_lora(base) for base in loras]) == expected


@pytest.mark.parametrize(
    ("named", "loras"), [("flux-dev", ["flux-tiny"]), (None, ["flux-dev", "flux-tiny", "flux-dev"])]
)
def test_a_lora_of_another_base_is_named_in_the_refusal(
    settings: Settings, named: str | None, loras: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        bases.choose(settings, BOTH, named=named, loras=[_lora(base) for base in loras])
    assert caught.value.code == "lora_base_mismatch"
    assert "a flux-tiny LoRA" in caught.value.detail


@pytest.mark.parametrize("installed", [set(), {"flux-tiny"}])
def test_the_self_test_is_never_a_substitute(settings: Settings, installed: set[str]) -> None:
    with pytest.raises(UnavailableError) as caught:
        bases.choose(settings, installed, named=None)
    assert (caught.value.code, caught.value.value) == ("base_model_not_installed", "flux-dev")
    assert "masuka install flux-dev" in (caught.value.hint or "")


def test_an_unknown_setting_is_not_taken_for_installed(settings: Settings) -> None:
    with pytest.raises(InputError) as caught:
        bases.choose(with_values(settings, masuka_base_model="sdxl"), BOTH, named=None)
    assert (caught.value.code, caught.value.value) == ("base_model_unknown", "sdxl")
