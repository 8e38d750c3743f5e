"""What a workflow's parameters take is what ComfyUI takes, as a JSON Schema and as a judgement."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta

from api.domain.generation import MAX_SEED
from api.domain.parameter import ParameterKind, ParameterSpec
from api.domain.parameters import json_schema, resolve, specs_of
from api.errors import Fault
from tests.domain.graphs import FILES, GRAPH, catalogue, changed, template_of

MAX_SIDE = 2048
PICTURE = "9f86d081-884c-4d65-9a2f-eaa0c55ad015"


def judged(changes: dict[str, Any]) -> tuple[dict[str, ParameterSpec], list[Fault]]:
    return specs_of(template_of(changed(changes)), catalogue(), FILES, MAX_SIDE)


def specs(changes: dict[str, Any] | None = None) -> dict[str, ParameterSpec]:
    found, faults = judged(changes or {})
    assert faults == []
    return found


def conflict(changes: dict[str, Any]) -> str:
    _, (fault,) = judged(changes)
    assert fault.code == "workflow_parameter_conflict"
    return fault.message


# ---- schema --------------------------------------------------------------------------------------------------------


def test_types_defaults_and_limits_come_from_comfyui_and_from_the_graph() -> None:
    schema = json_schema(specs())
    assert schema["properties"].keys() == {"prompt", "width", "height", "seed", "steps", "sampler"}
    assert schema["properties"]["prompt"] == {"type": "string", "default": "a cat", "maxLength": 5000}
    assert schema["properties"]["steps"] == {"type": "integer", "default": 20, "minimum": 1, "maximum": 10000}
    assert schema["properties"]["sampler"]["default"] == "euler"
    assert {"euler", "dpmpp_2m"} <= set(schema["properties"]["sampler"]["enum"])
    assert (schema["required"], schema["additionalProperties"]) == ([], False)
    assert meta.is_valid(schema)


def test_a_side_is_no_larger_than_the_installation_allows() -> None:
    width = specs()["width"]
    assert (width.minimum, width.maximum, width.step) == (16, MAX_SIDE, 8)


def test_a_seed_is_random_unless_given_and_exact_in_a_browser() -> None:
    assert specs()["seed"].schema() == {"type": "integer", "minimum": 0, "maximum": MAX_SEED}


def test_a_default_between_comfyuis_steps_frees_the_others_too() -> None:
    assert specs({"3": {"width": 500}})["width"].step is None


def test_a_picture_is_an_id_and_must_be_given() -> None:
    found = specs({"7": {"class_type": "LoadImage", "image": "x.png", "title": "[[image]]"}})
    schema = json_schema(found)
    assert schema["required"] == ["image"]
    assert (schema["properties"]["image"]["type"], schema["properties"]["image"]["format"]) == ("string", "uuid")


def test_a_file_is_one_of_those_there_are() -> None:
    assert specs({"1": {"title": "[[ckpt_name=base]]"}})["base"].choices == (
        "base.safetensors",
        "sub/other.safetensors",
    )


def test_what_masuka_fills_in_is_not_for_clients() -> None:
    assert "filename_prefix" not in specs({"6": {"title": "[[filename_prefix]]"}})


# ---- several inputs of one parameter -------------------------------------------------------------------------------


def test_inputs_of_one_parameter_take_what_all_of_them_take() -> None:
    flux = {"class_type": "EmptySD3LatentImage", "width": 512, "height": 512, "batch_size": 1, "title": "[[width]]"}
    width = specs({"7": flux})["width"]
    assert (width.minimum, width.step) == (16, 16)
    merged = specs({"3": {"title": "[[width=steps, height]]"}})["steps"]
    assert (merged.kind, merged.minimum, merged.maximum) == (ParameterKind.INTEGER, 16, 10000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"2": {"title": "[[text=sampler]]"}}, "sets inputs of two kinds, text and choice"),
        ({"4": {"title": "[[scheduler=x, sampler_name=x]]"}}, ""),
        ({"4": {"title": "[[steps=prompt]]"}, "2": {"title": ""}}, "prompt must be text in every workflow"),
        ({"4": {"title": "[[cfg=seed]]"}}, "seed must be a whole number in every workflow"),
    ],
)
def test_a_parameter_that_nothing_fits_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in conflict(changes)


# ---- values --------------------------------------------------------------------------------------------------------


def test_values_are_the_defaults_and_what_was_given() -> None:
    values, faults = resolve(specs(), {"prompt": "a dog", "seed": None})
    assert faults == []
    assert values == {"prompt": "a dog", "width": 512, "height": 512, "steps": 20, "sampler": "euler"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", 0, "steps must be at least 1."),
        ("steps", "5", "steps must be a whole number."),
        ("steps", True, "steps must be a whole number."),
        ("steps", 1.0, "steps must be a whole number."),
        ("width", 500, "width must be a multiple of 8."),
        ("width", 4096, "width must be at most 2048."),
        ("steps", 10**400, "steps must be at most 10000."),
        ("seed", 2**53, f"seed must be at most {MAX_SEED}."),
        ("prompt", 5, "prompt must be text."),
        ("prompt", "x" * 5001, "prompt must have at most 5000 characters."),
        ("prompt", "a\x00b", "prompt must not contain NUL characters."),
        ("prompt", "\ud800", "prompt must be valid Unicode, without lone surrogates."),
        ("sampler", "magic", "sampler must be one of euler, "),
        ("prompt", None, "prompt must be text."),
        ("steps", [4], "steps must be a whole number."),
    ],
)
def test_a_wrong_value_is_told_with_its_place(name: str, value: object, said: str) -> None:
    _, (fault,) = resolve(specs(), {name: value})
    assert (fault.loc, fault.code, fault.value) == (("parameters", name), "workflow_parameter_invalid", value)
    assert said in fault.message


def test_numbers_are_finite() -> None:
    cfg = specs({"4": {"title": "[[cfg]]"}})
    assert resolve(cfg, {"cfg": 2})[1] == []
    for value in (float("nan"), float("inf")):
        assert resolve(cfg, {"cfg": value})[1][0].message == "cfg must be a finite number."


def test_unknown_and_missing_parameters_are_named_together() -> None:
    found = specs({"7": {"class_type": "LoadImage", "image": "x.png", "title": "[[image]]"}})
    _, faults = resolve(found, {"sede": 1, "filename_prefix": "../x"})
    assert [fault.code for fault in faults] == ["workflow_parameter_unknown"] * 2 + ["workflow_parameter_missing"]
    assert "there are: prompt, width, height, seed" in faults[0].message
    assert resolve(found, {"image": PICTURE})[1] == []
    assert resolve(found, {"image": "../../etc/passwd"})[1][0].message == (
        "image must be the id of an asset or of an input."
    )


VALUES = st.one_of(
    st.integers(-10, 10**5), st.sampled_from([2**53, True, "euler", "", [], 512, {}]), st.text("abc", max_size=5)
)


@given(st.dictionaries(st.sampled_from(["prompt", "width", "seed", "steps", "sampler", "other"]), VALUES))
def test_the_schema_and_the_judgement_agree(given_: dict[str, Any]) -> None:
    found, _ = specs_of(template_of(GRAPH), catalogue(), FILES, MAX_SIDE)
    _, faults = resolve(found, given_)
    assert Draft202012Validator(json_schema(found)).is_valid(given_) == (faults == [])
