"""What is wrong with a graph is told node by node, before ComfyUI is asked."""

import math
from dataclasses import replace
from typing import Any

import pytest

from api.domain.parameters import OURS
from api.domain.workflow_check import check_template, fixed_files
from api.errors import Fault
from api.services import workflows
from tests.domain.graphs import FILES, GRAPH, catalogue, changed, template_of

SPEC = {"input": {}, "output": ["IMAGE"], "output_node": False, "python_module": "custom_nodes.mine"}


def faults(changes: dict[str, Any]) -> list[Fault]:
    return check_template(template_of(changed(changes)), catalogue(), FILES)


def only(changes: dict[str, Any]) -> Fault:
    (fault,) = faults(changes)
    return fault


def test_a_graph_that_comfyui_can_run_has_no_fault() -> None:
    assert faults({}) == []


# ---- classes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [("KSampeler", "KSampler"), ("ksampler", "KSampler"), ("Ksampler Advanced", "KSamplerAdvanced")],
)
def test_an_unknown_class_is_told_with_what_may_be_meant(written: str, meant: str) -> None:
    fault = only({"4": {"class_type": written}})
    assert (fault.code, fault.loc, fault.value) == ("workflow_node_unknown", ("graph", "4"), written)
    assert f"({written}): there is no node of this class. Did you mean " in fault.message
    assert meant in fault.message


def test_a_class_like_nothing_suggests_nothing() -> None:
    assert "mean" not in only({"4": {"class_type": "zzzzzzzzzzzz"}}).message


@pytest.mark.parametrize(
    "name", ["SaveLatent", "LoadImageOutput", "LoadImageDataSetFromFolder", "TrainLoraNode", "LoadVideo", "RegexMatch"]
)
def test_nodes_that_touch_files_or_do_not_draw_may_not_be_used_even_where_nothing_needs_them(name: str) -> None:
    fault = only({"7": {"class_type": name}})
    assert (fault.code, fault.value) == ("workflow_node_not_allowed", name)


def test_a_custom_node_must_be_allowed_and_then_installed() -> None:
    template = template_of(changed({"7": {"class_type": "Mine"}}))
    known = catalogue(Mine=SPEC)
    (fault,) = check_template(template, known, FILES)
    assert fault.code == "workflow_node_not_allowed"
    assert "MASUKA_ALLOWED_NODES" in fault.message
    allowed = {*known.allowed, "Mine"}
    assert check_template(template, replace(known, allowed=allowed), FILES) == []
    (fault,) = check_template(template, replace(catalogue(), allowed=allowed), FILES)
    assert (fault.code, fault.value) == ("workflow_node_not_installed", "Mine")


# ---- outputs -------------------------------------------------------------------------------------------------------


def test_a_workflow_needs_an_output() -> None:
    fault = only({"6": None})
    assert (fault.code, fault.loc) == ("workflow_no_output", ("graph",))
    assert "SaveImage" in fault.message


def test_a_workflow_makes_one_picture_and_may_have_previews() -> None:
    assert only({"7": {"class_type": "SaveImage", "images": ["5", 0], "filename_prefix": "x"}}).code == (
        "workflow_several_outputs"
    )
    assert faults({"7": {"class_type": "PreviewImage", "images": ["5", 0]}}) == []
    fault = only({"3": {"batch_size": 4}})
    assert (fault.code, fault.value) == ("workflow_value_invalid", 4)
    assert "num_images" in fault.message
    assert only({"3": {"title": "[[batch_size]]"}}).code == "workflow_value_invalid"


# ---- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (["5", 0], 'samples must be LATENT, and comes from Node 1 "Base model" (CheckpointLoaderSimple) as MODEL.'),
        (["1", 3], 'samples comes from output 3 of Node 1 "Base model" (CheckpointLoaderSimple), which has 3.'),
        (["1", -1], 'samples comes from output -1 of Node 1 "Base model" (CheckpointLoaderSimple), which has 3.'),
    ],
)
def test_a_link_of_another_type_or_from_an_output_that_is_not_there(link: list[Any], said: str) -> None:
    fault = only({"5": {"samples": ["1", 0] if link == ["5", 0] else link}})
    assert (fault.code, fault.loc) == ("workflow_link_invalid", ("graph", "5", "inputs", "samples"))
    assert said in fault.message


@pytest.mark.parametrize("slot", [0.0, 0.5, False, math.inf])
@pytest.mark.parametrize("name", ["samples", "x"])
def test_a_link_that_only_comfyui_would_follow_is_refused_and_what_it_runs_is_judged(name: str, slot: float) -> None:
    secret = {"class_type": "LoadImage", "image": "/etc/secret.png"}
    found = {fault.loc: fault.code for fault in faults({"7": secret, "5": {name: ["7", slot]}})}
    assert found == {
        ("graph", "5", "inputs", name): "workflow_link_invalid",
        ("graph", "7", "inputs", "image"): "workflow_path_refused",
    }


def test_a_link_to_an_input_that_the_class_does_not_have_is_refused() -> None:
    fault = only({"5": {"x": ["3", 0]}})
    assert (fault.code, fault.loc) == ("workflow_link_invalid", ("graph", "5", "inputs", "x"))
    assert "it has no input 'x'" in fault.message


def test_a_custom_node_may_take_inputs_that_it_does_not_tell_of_and_their_nodes_are_judged() -> None:
    switch = {"class_type": "Mine", "any_01": ["5", 0], "any_02": ["8", 0]}
    load = {"class_type": "LoadImage", "image": "/etc/secret.png"}
    template = template_of(changed({"6": {"images": ["7", 0]}, "7": switch, "8": load}))
    known = catalogue(Mine=SPEC)
    (fault,) = check_template(template, replace(known, allowed={*known.allowed, "Mine"}), FILES)
    assert (fault.code, fault.loc) == ("workflow_path_refused", ("graph", "8", "inputs", "image"))


def test_a_missing_input_is_named() -> None:
    fault = only({"5": {"samples": None}})
    assert (fault.code, fault.loc) == ("workflow_input_missing", ("graph", "5", "inputs", "samples"))


def test_an_input_that_only_a_node_can_give_takes_no_value() -> None:
    assert "samples must come from another node, as LATENT" in only({"5": {"samples": "x"}}).message


def test_nodes_that_the_picture_does_not_need_may_be_unfinished() -> None:
    assert faults({"7": {"class_type": "KSampler", "seed": "x"}}) == []


def test_loras_go_where_a_model_comes_out() -> None:
    fault = only({"1": {"title": "Base"}, "2": {"title": "[[@loras]]"}})
    assert (fault.code, fault.loc) == ("workflow_marker_invalid", ("graph", "2"))


# ---- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "change", "said"),
    [
        ("4", {"cfg": "1"}, "cfg must be a number"),
        ("4", {"cfg": True}, "cfg must be a number"),
        ("4", {"cfg": 101}, "cfg must be at most 100"),
        ("4", {"denoise": -0.1}, "denoise must be at least 0"),
        ("4", {"steps": 1.5}, "steps must be a whole number"),
        ("4", {"steps": 0}, "steps must be at least 1"),
        ("4", {"scheduler": "simpel"}, "scheduler must be one of simple, "),
        ("4", {"scheduler": {}}, "scheduler must be a value"),
        ("2", {"text": 5}, "text must be text"),
        ("2", {"text": "a\x00b"}, "text must not contain NUL"),
    ],
)
def test_a_value_that_comfyui_would_not_take_is_named(node: str, change: dict[str, Any], said: str) -> None:
    fault = only({node: change})
    assert (fault.code, fault.loc) == ("workflow_value_invalid", ("graph", node, "inputs", next(iter(change))))
    assert said in fault.message


def test_seeds_and_sizes_of_the_canvas_are_taken_as_comfyui_takes_them() -> None:
    assert faults({"4": {"seed": 2**64 - 1}, "3": {"width": 500}}) == []


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_missing_model_is_told_with_those_there_are() -> None:
    fault = only({"1": {"ckpt_name": "gone.safetensors"}})
    assert (fault.code, fault.value) == ("workflow_model_missing", "gone.safetensors")
    assert "there are: base.safetensors, sub/other.safetensors." in fault.message
    assert faults({"1": {"ckpt_name": "sub/other.safetensors"}}) == []


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "sub/../../x", "C:\\x", "\\\\host\\x", "~/x", "a\x00b"]
)
def test_a_path_in_a_loader_is_refused(path: str) -> None:
    fault = only({"1": {"ckpt_name": path}})
    assert (fault.code, fault.loc) == ("workflow_path_refused", ("graph", "1", "inputs", "ckpt_name"))


@pytest.mark.parametrize("prefix", ["../x", "/tmp/x", "a/../../x"])
def test_a_picture_is_not_saved_outside_of_its_folder(prefix: str) -> None:
    assert only({"6": {"filename_prefix": prefix}}).code == "workflow_path_refused"


def test_a_file_stands_in_its_node_and_comes_from_no_other() -> None:
    text = {"class_type": "PrimitiveString", "value": "../../x"}
    assert only({"7": text, "1": {"ckpt_name": ["7", 0]}}).code == "workflow_link_invalid"


def test_a_picture_to_start_from_must_be_a_parameter() -> None:
    load = {"class_type": "LoadImage", "image": "example.png"}
    encode = {"class_type": "VAEEncode", "pixels": ["7", 0], "vae": ["1", 2]}
    fault = only({"7": load, "8": encode, "4": {"latent_image": ["8", 0]}})
    assert (fault.code, fault.loc) == ("workflow_image_not_marked", ("graph", "7", "inputs", "image"))
    assert "[[image]]" in fault.message
    marked = {**load, "title": "[[image=photo]]", "image": "/etc/passwd"}
    assert faults({"7": marked, "8": encode, "4": {"latent_image": ["8", 0]}}) == [], "its own value never counts"


def test_files_of_the_base_model_are_not_judged_as_masuka_fills_them_in() -> None:
    unet = {"class_type": "UNETLoader", "unet_name": "gone", "weight_dtype": "default", "title": "[[unet_name]]"}
    assert faults({"7": unet, "4": {"model": ["7", 0]}}) == []


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("path", ["/home/me/private.png", "x.png [output]"])
def test_a_picture_is_nothing_that_masuka_fills_in(name: str, path: str) -> None:
    load = {"class_type": "LoadImage", "image": path, "title": f"[[image={name}]]"}
    encode = {"class_type": "VAEEncode", "pixels": ["7", 0], "vae": ["1", 2]}
    found = faults({"7": load, "8": encode, "4": {"latent_image": ["8", 0]}})
    assert {fault.loc for fault in found} == {("graph", "7", "inputs", "image")}
    assert {fault.code for fault in found} > {"workflow_marker_invalid"}, "and its own value counts"
    assert f"{name} is filled in by MASUKA, and only for " in found[0].message


def test_files_of_one_kind_are_not_filled_in_for_another() -> None:
    fault = only({"1": {"title": "[[ckpt_name=unet_name]]"}})
    assert (fault.code, fault.value) == ("workflow_marker_invalid", "unet_name")
    assert "only for UNETLoader.unet_name." in fault.message
    assert only({"2": {"title": "[[text=filename_prefix]]"}}).code == "workflow_marker_invalid"


@pytest.mark.parametrize("known", workflows.shipped().values(), ids=lambda known: known.name)
def test_the_shipped_workflows_have_no_fault_whatever_the_base_model(known: workflows.KnownWorkflow) -> None:
    assert check_template(known.template, catalogue(), {}) == []


def test_the_files_that_a_graph_names_can_be_listed() -> None:
    lora = {"class_type": "LoraLoaderModelOnly", "lora_name": "b.safetensors", "strength_model": 1, "model": ["1", 0]}
    template = template_of(changed({"7": lora, "4": {"model": ["7", 0]}}))
    assert fixed_files(template, catalogue(), "loras") == {"b.safetensors"}
    assert fixed_files(template_of(GRAPH), catalogue(), "loras") == set()


def test_all_faults_come_at_once() -> None:
    found = faults({"1": {"ckpt_name": "gone"}, "4": {"steps": 0, "cfg": 1000}, "7": {"class_type": "Nothing"}})
    assert len(found) == 4
