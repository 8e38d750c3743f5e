"""Prompts of the canvas: what is refused, and what becomes of those that are not."""

import copy
from typing import Any

import pytest

from api.comfy import core_nodes
from api.domain.canvas import is_own
from api.domain.canvas_picture import described
from api.domain.canvas_prompt import judge, lora_names, prepared, refusal, renamed, with_own_prefixes
from api.domain.nodes import NodeCatalogue
from api.domain.workflow import LoraUse, WorkflowInvalidError, bind
from api.errors import InputError
from api.services.workflows import shipped

NODES = core_nodes.shipped()
CATALOGUE = NodeCatalogue(NODES["nodes"], {*NODES["nodes"]}, frozenset(NODES["refused"]))
TEMPLATE = shipped()["flux_text_to_image"].template


PNG_INFO: dict[str, Any] = {"extra_pnginfo": {"workflow": {"nodes": []}}}


def graph() -> dict[str, Any]:
    return copy.deepcopy(TEMPLATE.graph)


def with_node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {**graph(), "99": {"class_type": class_type, "inputs": inputs}}


def test_what_ships_may_be_drawn_by_hand() -> None:
    for known in shipped().values():
        assert judge(known.template.graph, CATALOGUE) == []


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (with_node("LoadLatent", latent="x.latent"), "workflow_node_not_allowed"),
        (with_node("NoSuchNode"), "workflow_node_unknown"),
        (with_node("LoadImage", image="../../secret.png"), "workflow_path_refused"),
        (with_node("LoadImage", image="/etc/secret.png"), "workflow_path_refused"),
        (with_node("LoraLoaderModelOnly", lora_name="../x.safetensors"), "workflow_path_refused"),
        (with_node("SaveImage", filename_prefix="../../x"), "workflow_path_refused"),
        (with_node("LoadImage", image=["1", 0]), "workflow_link_invalid"),
        ({"1": {"class_type": "SaveImage"}}, "workflow_malformed"),
    ],
)
def test_nodes_and_files_out_of_bounds_are_named(node: dict[str, Any], code: str) -> None:
    (fault,) = judge(node, CATALOGUE)
    assert fault.code == code


def test_what_is_no_graph_is_refused() -> None:
    nothings: tuple[object, ...] = (None, [], "x", {}, {"nodes": []})
    for nothing in nothings:
        with pytest.raises(InputError):
            judge(nothing, CATALOGUE)


def test_a_refusal_is_what_the_canvas_shows_at_its_nodes() -> None:
    bad = with_node("LoadImage", image="/etc/secret.png")
    faults = judge(bad, CATALOGUE)
    said = refusal(WorkflowInvalidError(faults), faults, bad)
    assert said["error"]["type"] == "workflow_invalid"
    (error,) = said["node_errors"]["99"]["errors"]
    assert error["type"] == "workflow_path_refused"
    assert error["extra_info"] == {"input_name": "image"}
    assert said["node_errors"]["99"]["class_type"] == "LoadImage"


def test_a_prompt_gets_an_id_of_its_own_and_no_place_before_jobs() -> None:
    body = {"prompt": graph(), "prompt_id": "a-job", "number": -5, "client_id": "c", "extra_data": PNG_INFO}
    ready = prepared(body, 1.79e9)
    assert is_own(ready["prompt_id"])
    assert ready["number"] > 1e11
    assert ready["prompt"].keys() == graph().keys()
    assert (ready["client_id"], ready["extra_data"]) == ("c", PNG_INFO)
    assert prepared({**body, "front": True}, 1.79e9)["number"] < ready["number"]
    assert "front" not in prepared({**body, "front": True}, 1.79e9)


@pytest.mark.parametrize(
    "odd",
    [
        {"client_id": {}, "extra_data": {"client_id": {}}},
        {"client_id": 7, "extra_data": "x", "partial_execution_targets": {}},
        {"extra_data": {"extra_pnginfo": "x"}, "preview_method": "taesd"},
    ],
)
def test_nothing_odd_reaches_the_thread_that_draws_for_all(odd: dict[str, Any]) -> None:
    node = {**graph()["1"], "is_changed": {}}
    assert prepared({"prompt": {"1": node}, **odd}, 1.79e9).keys() == {"prompt", "prompt_id", "number"}
    assert prepared({"prompt": {"1": node}, **odd}, 1.79e9)["prompt"] == {"1": graph()["1"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [("masuka/a-job", "ComfyUI"), ("./masuka//x", "ComfyUI"), ("mine/masuka", "mine/masuka"), (["3", 0], ["3", 0])],
)
def test_no_picture_of_the_canvas_lies_among_those_of_jobs(before: object, after: object) -> None:
    drawn = with_own_prefixes(with_node("SaveImage", filename_prefix=before, images=["8", 0]))
    assert drawn["99"]["inputs"] == {"filename_prefix": after, "images": ["8", 0]}


def test_pictures_of_a_job_get_names_that_stay() -> None:
    named = renamed(with_node("LoadImage", image="masuka-1.png"), {"masuka-1.png": "1.png"})
    assert named["99"]["inputs"]["image"] == "1.png"


def test_the_loras_that_must_be_fetched_are_those_that_the_graph_names() -> None:
    stacked = bind(TEMPLATE, TEMPLATE.defaults(), [LoraUse("b.safetensors", 1.0), LoraUse("a.safetensors", 0.5)])
    assert lora_names(stacked) == ["a.safetensors", "b.safetensors"]


def test_the_history_says_of_a_picture_what_its_graph_says() -> None:
    values = {**TEMPLATE.defaults(), "prompt": "a red\0 circle", "negative_prompt": "blue", "seed": 7}
    drawn = bind(TEMPLATE, values, [LoraUse("me.safetensors", 0.5)])
    prompt, negative_prompt, config = described(drawn)
    assert (prompt, negative_prompt) == ("a red circle", "blue")
    assert config["source"] == "canvas"
    assert config["seed"] == 7
    assert config["loras"] == [{"file": "me.safetensors", "scale": 0.5}]
    assert config["num_inference_steps"] == values["num_inference_steps"]


@pytest.mark.parametrize("odd", [{}, {"1": None}, {"1": {"class_type": "KSampler", "inputs": {"positive": ["9", 0]}}}])
def test_an_odd_graph_says_nothing_and_breaks_nothing(odd: dict[str, Any]) -> None:
    assert described(odd) == ("", "", {"source": "canvas", "loras": []})
