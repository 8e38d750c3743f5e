import json
import math
from typing import Any

import pytest

from api.domain.graph import MAX_NODES, Graph
from api.domain.markers import Slot
from api.domain.workflow import LoraUse, WorkflowTemplate, bind, parse_template, with_output_prefix
from api.errors import Fault, FaultsError, InputError
from api.services import workflows
from api.settings import PROJECT_ROOT

FLUX = (PROJECT_ROOT / "comfy_workflows" / "flux_text_to_image.json").read_text()


def node(title: str = "", class_type: str = "KSampler", **inputs: Any) -> Graph:
    return {"inputs": inputs, "class_type": class_type, "_meta": {"title": title}}


def template(**nodes: Graph) -> WorkflowTemplate:
    return parse_template("mine", json.dumps({name.lstrip("n"): graph for name, graph in nodes.items()}))


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_template("mine", text)
    return caught.value


def faults_of(text: str) -> list[Fault]:
    error = refusal(text)
    assert isinstance(error, FaultsError)
    assert error.code == "workflow_invalid"
    assert error.hint is not None
    return list(error.faults)


def marker_fault(title: str, **inputs: Any) -> str:
    (fault,) = faults_of(json.dumps({"7": node(title, **inputs)}))
    assert (fault.code, fault.loc) == ("workflow_marker_invalid", ("graph", "7"))
    assert "Node 7" in fault.message
    return fault.message


# ---- the shipped template ----------------------------------------------------------------------------------------


def test_the_flux_template_takes_what_the_api_offers_and_what_a_base_model_needs():
    flux = parse_template("flux", FLUX)
    assert set(flux.parameters) == {
        *("prompt", "negative_prompt", "width", "height", "seed", "num_inference_steps"),
        *("guidance_scale", "true_cfg_scale", "sampler", "scheduler", "filename_prefix"),
        *("unet_name", "weight_dtype", "clip_l_name", "t5xxl_name", "vae_name"),
    }
    assert flux.graph["1"]["class_type"] == "UNETLoader"
    assert flux.lora_node == "1"


def test_the_flux_templates_defaults_are_those_of_the_api():
    defaults = parse_template("flux", FLUX).defaults()
    assert (defaults["num_inference_steps"], defaults["guidance_scale"], defaults["true_cfg_scale"]) == (28, 3.5, 1)
    assert (defaults["width"], defaults["height"]) == (1024, 1024)


def test_a_size_reaches_every_node_that_depends_on_it():
    flux = parse_template("flux", FLUX)
    assert {slot.class_type for slot in flux.parameters["width"].slots} == {"ModelSamplingFlux", "EmptySD3LatentImage"}
    graph = bind(flux, {**flux.defaults(), "width": 640})
    assert [node["inputs"]["width"] for node in graph.values() if "width" in node["inputs"]] == [640, 640]


def test_the_flux_template_is_written_as_the_canvas_writes_it():
    graph = json.loads(FLUX)
    assert json.dumps(graph, indent=2, ensure_ascii=False) + "\n" == FLUX
    assert {tuple(node) for node in graph.values()} == {("inputs", "class_type", "_meta")}


# ---- markers -----------------------------------------------------------------------------------------------------


def test_a_marker_names_inputs_and_their_parameters():
    parsed = template(n3=node("My sampler [[ seed , steps = num_inference_steps ]] (slow)", seed=5, steps=20, cfg=1))
    assert parsed.defaults() == {"seed": 5, "num_inference_steps": 20}
    assert parsed.parameters["num_inference_steps"].slots == (Slot("3", "steps", "KSampler"),)


def test_nodes_without_a_marker_or_a_title_are_left_alone():
    plain = {"inputs": {"seed": 1}, "class_type": "KSampler"}
    untitled = {**plain, "_meta": {}}
    assert template(n1=plain, n2=untitled, n3=node("[batch] of 2", seed=1)).parameters == {}


def test_the_first_of_two_defaults_counts():
    assert template(n1=node("[[seed]]", seed=1), n2=node("[[seed]]", seed=2)).defaults() == {"seed": 1}


@pytest.mark.parametrize(
    "title", ["[[]]", "[[seed=]]", "[[seed=Seed]]", "[[=x]]", "[[seed steps]]", "[[@models]]", "[[a,,b]]"]
)
def test_a_marker_that_cannot_be_read_is_refused(title):
    assert "want input, input=parameter or @loras" in marker_fault(title, seed=1, a=1, b=2)


@pytest.mark.parametrize("title", ["[[seed]] and [[steps]]", "[[seed"])
def test_a_title_holds_one_whole_marker(title):
    assert "a title holds one" in marker_fault(title, seed=1, steps=2)


def test_an_input_that_is_not_there_is_refused_and_the_others_are_named():
    said = marker_fault("[[sede]]", seed=1, other={})
    assert "'sede' is not an input with a value; those are: seed" in said


def test_an_input_that_comes_from_another_node_cannot_be_a_parameter():
    graph = {"1": node(), "7": node("[[model]]", model=["1", 0])}
    (fault,) = faults_of(json.dumps(graph))
    assert "those are: none" in fault.message


@pytest.mark.parametrize("title", ["[[seed, seed]]", "[[seed, seed=other]]", "[[@loras, @loras]]"])
def test_an_input_is_named_once_in_a_marker(title):
    assert "twice" in marker_fault(title, seed=1)


def test_loras_go_to_one_place():
    (fault,) = faults_of(json.dumps({"1": node("[[@loras]]"), "2": node("[[@loras]]")}))
    assert (fault.code, fault.loc) == ("workflow_marker_invalid", ("graph", "2"))
    assert "node 1 already" in fault.message


# ---- what is no template -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "workflow_not_json"),
        ('{"1": NaN}', "workflow_not_json"),
        ("[" * 100_000, "workflow_not_json"),
        ("[]", "workflow_malformed"),
        ("{}", "workflow_malformed"),
        ('{"nodes": [], "links": [], "version": 0.4}', "workflow_ui_format"),
    ],
)
def test_what_is_no_graph_in_api_format_is_refused(text, code):
    error = refusal(text)
    assert error.code == code
    assert error.hint is not None
    assert "Export (API)" in error.hint


def test_a_graph_has_no_more_nodes_than_anybody_draws():
    at_most = {str(number): node() for number in range(MAX_NODES)}
    assert len(parse_template("mine", json.dumps(at_most)).graph) == MAX_NODES
    error = refusal(json.dumps({**at_most, "more": node()}))
    assert (error.code, error.value) == ("workflow_too_many_nodes", MAX_NODES + 1)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (5, "has no class_type"),
        ({"inputs": {}}, "has no class_type"),
        ({"class_type": 5, "inputs": {}}, "has no class_type"),
        ({"class_type": "KSampler"}, "has no inputs"),
    ],
)
def test_a_broken_node_is_named(raw, said):
    (fault,) = faults_of(json.dumps({"1": raw}))
    assert (fault.code, fault.loc) == ("workflow_malformed", ("graph", "1"))
    assert fault.message == f"Node 1 {said}."


@pytest.mark.parametrize("node_id", ["", "x" * 65, "9" * 5000])
def test_a_node_has_an_id_of_bearable_length(node_id):
    (fault,) = faults_of(json.dumps({node_id: node()}))
    assert "must have an id of 1 to 64 characters" in fault.message
    assert len(fault.message) < 200


def test_a_link_to_nowhere_is_named():
    (fault,) = faults_of(json.dumps({"1": node("Steps [[seed]]", seed=1, model=["2", 0])}))
    assert fault.message == 'Node 1 "Steps" (KSampler): model comes from node 2, which does not exist.'
    assert (fault.code, fault.loc) == ("workflow_link_broken", ("graph", "1", "inputs", "model"))


def test_nodes_that_need_each_other_are_named_and_those_behind_them_are_not():
    ring = {"1": node(a=["2", 0]), "2": node(a=["3", 0]), "3": node(a=["1", 0])}
    faults = faults_of(json.dumps({**ring, "4": node(a=["1", 0]), "5": node(a=["5", 0]), "6": node()}))
    assert {fault.loc[1] for fault in faults} == {"1", "2", "3", "5"}
    assert {fault.code for fault in faults} == {"workflow_cycle"}


def test_every_fault_is_told_at_once():
    graph = {"1": node("[[seed", seed=1), "2": node(model=["9", 0]), "3": {}}
    error = refusal(json.dumps(graph))
    assert isinstance(error, FaultsError)
    assert {fault.loc[1] for fault in error.faults} == {"1", "2", "3"}
    assert error.detail.endswith("There is more: 3 things are wrong.")


# ---- binding -----------------------------------------------------------------------------------------------------

SAMPLER = template(
    n1=node("[[unet_name, @loras]]", "UNETLoader", unet_name="a.safetensors"),
    n2=node("[[seed, cfg, text, tiled]]", seed=1, cfg=1.0, text="", tiled=False, model=["1", 0], other=["1", 1]),
    n5=node("", "SaveModel", model=["1", 0]),
)


def values(**changes: Any) -> dict[str, Any]:
    return {**SAMPLER.defaults(), **changes}


def test_values_are_set_and_the_template_stays_as_it_was():
    before = json.dumps(SAMPLER.graph)
    graph = bind(SAMPLER, values(seed=9, text="a cat"))
    assert graph["2"]["inputs"]["seed"] == 9
    assert graph["2"]["inputs"]["text"] == "a cat"
    graph["2"]["inputs"]["model"].append("changed")
    assert json.dumps(SAMPLER.graph) == before


def test_an_unknown_parameter_is_refused_by_name():
    with pytest.raises(InputError) as caught:
        bind(SAMPLER, values(sed=9))
    assert (caught.value.code, caught.value.value) == ("workflow_parameter_unknown", ["sed"])
    assert caught.value.hint == "It has: unet_name, seed, cfg, text, tiled."


def test_a_missing_parameter_is_refused_by_name():
    with pytest.raises(InputError) as caught:
        bind(SAMPLER, {"unet_name": "a", "seed": 1, "text": ""})
    assert (caught.value.code, caught.value.value) == ("workflow_parameter_missing", ["cfg", "tiled"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "9"}, "seed must be a finite number, got '9'"),
        ({"seed": True}, "seed must be a finite number, got True"),
        ({"cfg": math.nan}, "cfg must be a finite number, got nan"),
        ({"cfg": math.inf}, "cfg must be a finite number, got inf"),
        ({"text": 5}, "text must be text, got 5"),
        ({"tiled": 1}, "tiled must be true or false, got 1"),
    ],
)
def test_a_value_of_another_type_is_refused(change, said):
    with pytest.raises(InputError, match="Parameter") as caught:
        bind(SAMPLER, values(**change))
    assert caught.value.code == "workflow_parameter_invalid"
    assert said in caught.value.detail


def test_the_canvas_writes_whole_floats_without_a_point_and_they_still_take_any_number():
    assert bind(template(n1=node("[[cfg]]", cfg=1)), {"cfg": 3.5})["1"]["inputs"]["cfg"] == 3.5


def test_the_picture_is_saved_where_it_is_wanted_marked_or_not():
    save = template(n1=node("", "SaveImage", filename_prefix="ComfyUI", images=["2", 0]), n2=node("", seed=1))
    graph = with_output_prefix(save.graph, "masuka/1")
    assert graph["1"]["inputs"] == {"filename_prefix": "masuka/1", "images": ["2", 0]}
    assert graph["2"] == save.graph["2"]
    assert save.graph["1"]["inputs"]["filename_prefix"] == "ComfyUI"


@pytest.mark.parametrize("preview", ["PreviewImage", "MaskPreview", "PreviewAny"])
def test_what_the_picture_does_not_need_is_not_sent(preview):
    nodes = {
        "n1": node("", "SaveImage", filename_prefix="x", images=["2", 0]),
        "n2": node(images=["3", 0], other=["4", 0.0]),
        "n3": node("[[@loras]]"),
        "n4": node(),
        "n5": node("", "LoadImage", image="/etc/secret.png"),
        "n6": node("", preview, images=["5", 0]),
        "n7": node("", preview, images=["2", 0]),
    }
    graph = with_output_prefix(bind(template(**nodes), {}, [LoraUse("a.safetensors", 1.0)]), "masuka/1")
    assert graph.keys() == {"1", "2", "3", "4", "8"}
    assert graph["8"]["class_type"] == "LoraLoaderModelOnly"


@pytest.mark.parametrize("known", workflows.shipped().values(), ids=lambda known: known.name)
def test_the_shipped_templates_are_sent_whole(known):
    graph = bind(known.template, known.template.defaults())
    assert with_output_prefix(graph, "masuka/1").keys() == known.template.graph.keys()


def test_without_loras_there_is_no_lora_node():
    assert bind(SAMPLER, values()).keys() == SAMPLER.graph.keys()


def test_loras_are_chained_between_the_base_model_and_everything_that_used_it():
    graph = bind(SAMPLER, values(), [LoraUse("a.safetensors", 0.5), LoraUse("b.safetensors", -1.0)])
    assert graph["6"]["inputs"] == {"lora_name": "a.safetensors", "strength_model": 0.5, "model": ["1", 0]}
    assert graph["7"]["inputs"] == {"lora_name": "b.safetensors", "strength_model": -1.0, "model": ["6", 0]}
    assert graph["2"]["inputs"]["model"] == graph["5"]["inputs"]["model"] == ["7", 0]
    assert graph["2"]["inputs"]["other"] == ["1", 1]
    assert {graph[number]["class_type"] for number in "67"} == {"LoraLoaderModelOnly"}


def test_lora_nodes_get_ids_that_are_free_even_beside_subgraph_nodes():
    subgraph = parse_template("mine", json.dumps({"12:3": node("[[@loras]]"), "4": node(model=["12:3", 0])}))
    graph = bind(subgraph, {}, [LoraUse("a.safetensors", 1.0)])
    assert graph["5"]["inputs"]["model"] == ["12:3", 0]
    assert graph["4"]["inputs"]["model"] == ["5", 0]


def test_a_workflow_without_a_place_for_loras_refuses_them():
    with pytest.raises(InputError) as caught:
        bind(template(n1=node("[[seed]]", seed=1)), {"seed": 1}, [LoraUse("a.safetensors", 1.0)])
    assert caught.value.code == "workflow_without_loras"
    assert caught.value.hint is not None
    assert "[[@loras]]" in caught.value.hint
