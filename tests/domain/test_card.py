"""What is written down of how a LoRA was made, and how it reads."""

from typing import Any

from api.domain.card import as_markdown, begun, engines_at

OLD, NEW = {"simpletuner": {"version": "3.1.6"}}, {"simpletuner": {"version": "4.8.0"}}
BARE: dict[str, Any] = {
    "name": "ohwx",
    "version": 1,
    "file_name": "ohwx-1a2b3c4d.safetensors",
    "file_size_mb": 1.5,
    "sha256": "1a2b",
    "rank": 4,
    "alpha": None,
    "trigger_words": [],
    "created_at": "2026-11-22T11:00:00Z",
    "source": None,
    "base": {"name": "flux-dev"},
    **dict.fromkeys(("session", "dataset", "config", "seed", "step", "loss", "engines")),
    "samples": [],
}


def test_each_step_was_made_by_the_start_before_it() -> None:
    made_with = begun(begun([], 0, OLD), 500, NEW)
    assert engines_at(made_with, 250) == engines_at(made_with, 500) == OLD
    assert engines_at(made_with, 501) == NEW
    assert engines_at([], 250) is None


def test_what_is_trained_again_was_made_by_the_later_start() -> None:
    made_with = begun(begun(begun([], 0, OLD), 500, OLD), 250, NEW)
    assert [start["from_step"] for start in made_with] == [0, 250]
    assert engines_at(made_with, 500) == NEW
    assert engines_at(begun(made_with, 0, OLD), 500) == OLD


def test_a_card_of_which_little_is_known_says_that_and_no_more() -> None:
    text = as_markdown(BARE)
    assert text.startswith("# ohwx (version 1)\n\n| | |\n| --- | --- |\n| File | `ohwx-1a2b3c4d.safetensors` |\n")
    assert "| Rank / alpha | 4 |" in text
    assert "## Base model\n\n| | |\n| --- | --- |\n| Name | flux-dev |\n" in text
    assert [line for line in text.splitlines() if line.startswith("##")] == ["## Base model"]
    assert "None" not in text


def test_a_card_tells_how_the_lora_was_made() -> None:
    card = {
        **BARE,
        "alpha": 2.0,
        "trigger_words": ["a|b`c\nd"],
        "base": {"name": "flux-dev", "licence": "Non-Commercial", "licence_url": "https://x/"},
        "session": {"id": "s1", "name": "me | you", "parent_id": "s0"},
        "dataset": {"id": "d1", "name": "photos", "version": 3, "version_id": "v3", "images": 25},
        "config": {"steps": 2000, "rank": 4},
        "seed": 42,
        "step": 500,
        "loss": 0.25,
        "engines": {
            "masuka": "0.1",
            "simpletuner": {"version": "3.1.6", "commit": None, "torch": "2.13"},
            "comfyui": {"version": "0.3.75", "commit": "f8b981ae9a5676311624", "torch": None},
            "gpu": None,
        },
        "samples": [{"step": 500, "url": "/api/assets/a1/file"}],
    }
    lines = as_markdown(card).splitlines()
    for row in (
        "| Rank / alpha | 4 / 2.0 |",
        "| Trigger words | `a\\|b'c d` |",
        "| Licence | [Non-Commercial](https://x/) |",
        "| Session | `s1` me \\| you |",
        "| Parent session | `s0` |",
        "| Step | 500 of 2000 |",
        "| Loss | 0.25 |",
        "| Seed | 42 |",
        "| Id | `d1` |",
        "| Version | 3 (`v3`) |",
        "| Images | 25 |",
        "| SimpleTuner | 3.1.6, torch 2.13 |",
        "| ComfyUI | 0.3.75, commit f8b981ae9a56, torch ? |",
        "| rank | `4` |",
        "| Step 500 | /api/assets/a1/file |",
    ):
        assert row in lines


def test_a_licence_of_which_only_one_half_is_known_is_told_plainly() -> None:
    assert "| Licence | MIT |" in as_markdown({**BARE, "base": {"name": "flux-tiny", "licence": "MIT"}})
    assert "| Licence | https://x/ |" in as_markdown({**BARE, "base": {"name": "x", "licence_url": "https://x/"}})
