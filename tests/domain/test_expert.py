"""Which options of SimpleTuner a request may set, by the list of the version that is installed."""

from typing import Any

import pytest

from api.domain.expert import FIELDS, OptionKind, Value, check, offered
from api.domain.training import FluxTrainingOptions
from api.errors import FaultsError, UnavailableError
from api.trainer.option_list import FOLDER, options_of

VERSIONS = sorted(path.stem for path in FOLDER.glob("*.json"))


def refused(version: str = "3.1.6", **expert: Any) -> list[tuple[str, str]]:
    """Code and message of each fault."""
    with pytest.raises(FaultsError) as caught:
        check(expert, options_of(version), version, "flux")
    assert caught.value.code == "expert_refused"
    return [(fault.code, fault.message) for fault in caught.value.faults]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_changes_how_is_learnt_is_allowed_in_every_version(version: str) -> None:
    wishes: dict[str, Value] = {
        "flow_schedule_shift": 2.5,
        "max_grad_norm": 1,
        "loss_type": "huber",
        "optimizer": "adamw_bf16",
        "lr_scheduler": "cosine_with_restarts",
        "lr_num_cycles": 3,
        "disable_tf32": True,
        "quantize_via": "accelerator",
    }
    check(wishes, options_of(version), version, "flux")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_dir", "/etc"), ("logging_dir", "/etc"), ("cache_dir", "/"), ("data_backend_config", "/etc/passwd"),
        ("webhook_config", "{}"), ("webhook_reporting_interval", 1000), ("post_checkpoint_script", "rm -rf /"),
        ("post_upload_script", "id"), ("validation_external_script", "id"), ("validation_method", "external-script"),
        ("push_to_hub", True), ("push_checkpoints_to_hub", True), ("hub_model_id", "me/mine"), ("report_to", "wandb"),
        ("custom_tracker", "os"), ("pretrained_model_name_or_path", "me/mine"), ("init_lora", "/a"), ("revision", "x"),
        ("lycoris_config", "x"), ("optimizer_config", "x"), ("deepspeed_config", "{}"), ("accelerate_config", "x"),
        ("accelerate_extra_args", "x"), ("main_process_port", 80), ("num_processes", 8), ("publishing_config", "{}"),
        ("delete_unwanted_images", True), ("evaluation_type", "clip"), ("group_offload_to_disk_path", "/"),
        ("model_type", "full"), ("lora_type", "lycoris"), ("use_ema", True), ("resume_from_checkpoint", "latest"),
        ("checkpointing_rolling_steps", 1), ("tracker_project_name", "x"), ("user_prompt_library", "/etc/passwd"),
    ],
)  # fmt: skip
def test_nothing_reaches_files_programs_other_machines_or_what_masuka_decides(
    version: str, name: str, value: Value
) -> None:
    assert name in options_of(version)
    ((code, message),) = refused(version, **{name: value})
    assert code == "expert_option_reserved"
    assert message.startswith(f"expert.{name}: not for requests: ")


@pytest.mark.parametrize("name", ["crepa_enabled", "urepa_lambda", "enable_nsfw_check", "disk_low_action"])
def test_nothing_that_newer_versions_would_fetch_or_run_is_allowed(name: str) -> None:
    assert refused("4.8.0", **{name: 1})[0][0] == "expert_option_reserved"


def test_a_choice_that_is_fetched_from_the_internet_is_none() -> None:
    assert "flash-attn-3-hub" in options_of("4.8.0")["attention_mechanism"].choices
    ((code, message),) = refused("4.8.0", attention_mechanism="flash-attn-3-hub")
    assert code == "expert_value_invalid"
    assert "flash-attn-3" in message
    assert "-hub" not in message
    (shown,) = [one for one in offered(options_of("4.8.0"), "flux") if one.name == "attention_mechanism"]
    assert not [choice for choice in shown.choices if "hub" in str(choice)]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_that_is_offered_takes_free_text(version: str) -> None:
    found = offered(options_of(version), "flux")

    assert len(found) > 100
    assert all(one.choices for one in found if one.kind is OptionKind.CHOICE)
    assert not [one.name for one in found if one.kind is OptionKind.TEXT]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_has_a_field_of_its_own_is_set_there(version: str) -> None:
    assert FIELDS.keys() <= options_of(version).keys()
    assert refused(version, lora_rank=8) == [
        ("expert_option_reserved", "expert.lora_rank: set the field rank of the request.")
    ]
    known = {
        *FluxTrainingOptions.model_fields,
        "learning_rate",
        "steps",
        "rank",
        "alpha",
        "resolution",
        "lr_warmup_steps",
    }
    assert set(FIELDS.values()) <= known


def test_a_name_that_is_none_is_refused_with_the_nearest_that_is_one() -> None:
    assert refused(max_grad_nrom=1.0) == [
        (
            "expert_option_unknown",
            "expert.max_grad_nrom: SimpleTuner 3.1.6 has no such option; did you mean max_grad_norm?",
        )
    ]
    # The trainer's own parser takes an unambiguous beginning of a name for the whole.
    assert refused(push_to_h=True)[0][0] == "expert_option_unknown"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss_type", "hubert", "must be one of: l2, huber, smooth_l1; did you mean huber?"),
        ("loss_type", 2, "must be a text of its list, got 2."),
        ("max_grad_norm", "1.0", "must be a number, got '1.0'."),
        ("max_grad_norm", True, "must be a number, got True."),
        ("max_grad_norm", float("nan"), "must be a finite number of usual size."),
        ("lr_num_cycles", 1.5, "must be a whole number, got 1.5."),
        ("lr_num_cycles", 10**30, "must be a finite number of usual size."),
        ("disable_tf32", 1, "must be true or false, got 1."),
        ("adam_beta1", 1.5, "must be at most 1."),
        ("adam_beta1", -0.1, "must be at least 0."),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_may_be(name: str, value: Any, message: str) -> None:
    assert refused(**{name: value}) == [("expert_value_invalid", f"expert.{name}: {message}")]


def test_an_option_of_another_family_is_refused() -> None:
    assert refused(ltx_train_mode="i2v") == [
        ("expert_option_reserved", "expert.ltx_train_mode: it is for ltx, not for flux.")
    ]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(refused(nonsense=1, output_dir="/", loss_type="l3", max_grad_norm=1.0)) == 3


def test_a_version_that_was_never_asked_says_so() -> None:
    with pytest.raises(UnavailableError, match=r"SimpleTuner 9\.9\.9 are not known") as caught:
        options_of("9.9.9")
    assert caught.value.code == "trainer_options_unknown"
