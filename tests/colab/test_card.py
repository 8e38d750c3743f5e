"""What is said of a machine, before anything is installed on it."""

from dataclasses import replace

import pytest

from api.colab.card import Machine, judge
from api.engines.gpu import Gpu

A100 = Gpu(0, "NVIDIA A100-SXM4-40GB", 40.0, (8, 0), "550")
T4 = Gpu(0, "Tesla T4", 15.0, (7, 5), "550")
SMALL = Gpu(0, "NVIDIA A2000", 6.0, (8, 6), "550")
GOOD = Machine([A100], ram_gb=83, free_disk_gb=200, hf_token=True)


def test_a_large_card_with_a_token_gets_flux_dev_and_nothing_is_said_against_it() -> None:
    found = judge(GOOD, "auto")
    assert (found.base_model, found.words) == ("flux-dev", ())
    assert found.found == (
        "NVIDIA A100-SXM4-40GB with 40 GB, compute capability 8.0, 83 GB of RAM, 200 GB of disk free"
    )


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (replace(GOOD, gpus=[]), "Without a GPU"),
        (
            replace(GOOD, gpus=[T4]),
            "A Tesla T4 cannot train Flux: it is too old to compute in bf16. It can draw, in fp8",
        ),
        (replace(GOOD, gpus=[SMALL]), "6 GB of GPU memory are too little"),
        (replace(GOOD, ram_gb=12.7), "13 GB of RAM are too little"),
        (replace(GOOD, hf_token=False), "needs HF_TOKEN in Colab's Secrets"),
        (replace(GOOD, free_disk_gb=60), "needs 68 GB of disk"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_small_model_taken(machine: Machine, said: str) -> None:
    found = judge(machine, "auto")
    assert found.base_model == "flux-tiny"
    assert said in found.words[0]
    asked = judge(machine, "flux-dev")
    assert (asked.base_model, asked.words) == ("flux-dev", found.words[:-1])
    assert judge(machine, "flux-tiny").words == ()


def test_what_is_installed_needs_neither_token_nor_room() -> None:
    machine = replace(GOOD, hf_token=False, free_disk_gb=5, has_flux_dev=True)
    assert judge(machine, "auto").base_model == "flux-dev"
