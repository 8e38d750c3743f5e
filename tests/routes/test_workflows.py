"""`/api/workflows`: listed, kept, refused with every reason, run, deleted."""

import copy
import json
from typing import Any

import httpx
import pytest

from api.models import EngineSnapshot
from api.routes.guard import MAX_JSON_BYTES
from api.services import node_catalogue
from api.settings import Settings
from tests.domain.graphs import changed
from tests.service import NOBODY, Service, assert_problem, ids, png, serving, tiny_lora, with_values

WORKFLOWS = "/api/workflows/"
SHIPPED = ["flux_text_to_image", "flux_image_to_image", "flux_inpaint", "flux_upscale"]
BASE = {"1": {"class_type": "UNETLoader", "unet_name": "x", "weight_dtype": "default", "ckpt_name": None}}


async def graph_of(service: Service, name: str = "flux_text_to_image") -> dict[str, Any]:
    found: dict[str, Any] = (await service.client.get(f"{WORKFLOWS}{name}")).json()["graph"]
    return found


async def keep(service: Service, name: str = "mine", **fields: Any) -> httpx.Response:
    fields.setdefault("graph", await graph_of(service))
    return await service.client.post(WORKFLOWS, json={"name": name, **fields})


async def run(service: Service, name: str = "flux_text_to_image", **body: Any) -> httpx.Response:
    await service.pulse("flux-dev", "flux-tiny")
    return await service.client.post(f"{WORKFLOWS}{name}/run", json=body)


async def asset_of(service: Service, response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    return dict((await service.client.get(f"/api/assets/{response.json()['asset_id']}")).json())


def codes(problem: dict[str, Any]) -> list[str]:
    return [error["type"] for error in problem["errors"]]


# ---- listed --------------------------------------------------------------------------------------------------------


async def test_the_shipped_workflows_are_listed_with_what_they_take(service: Service) -> None:
    items = (await service.client.get(WORKFLOWS)).json()["items"]
    assert [item["name"] for item in items] == SHIPPED
    assert {(item["source"], item["asset_type"], item["takes_loras"]) for item in items} == {("shipped", "image", True)}
    assert all(item["title"] and item["description"] and "graph" not in item for item in items)
    schemas = {item["name"]: item["parameters"] for item in items}
    assert {name: schema["required"] for name, schema in schemas.items()} == {
        "flux_text_to_image": [],
        "flux_image_to_image": ["image"],
        "flux_inpaint": ["image", "mask"],
        "flux_upscale": [],
    }
    assert all({"prompt", "seed", "width"} <= schema["properties"].keys() for schema in schemas.values())
    assert all("unet_name" not in schema["properties"] for schema in schemas.values())


async def test_ones_own_is_kept_as_it_was_exported_and_listed_behind_the_shipped(any_service: Service) -> None:
    graph = await graph_of(any_service)
    reordered = dict(reversed(graph.items()))
    response = await keep(any_service, "mine", graph=reordered, title="Mine", description="é\nline")
    assert response.status_code == 201, response.text
    assert await keep(any_service, "a-first", graph=graph)
    got = (await any_service.client.get(f"{WORKFLOWS}mine")).json()
    assert got == response.json()
    assert json.dumps(got["graph"]) == json.dumps(reordered), "also in the order of its nodes"
    assert (got["source"], got["title"], got["description"]) == ("user", "Mine", "é\nline")
    items = (await any_service.client.get(WORKFLOWS)).json()["items"]
    assert [item["name"] for item in items] == [*SHIPPED, "a-first", "mine"]


@pytest.mark.parametrize("name", ["nothing", "flux_text_to_image.json", "..", "%2e%2e", "mine%00"])
async def test_an_unknown_name_is_no_workflow(service: Service, name: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/run")):
        response = await service.client.request(method, f"{WORKFLOWS}{name}{path}", json={} if path else None)
        assert response.status_code in (404, 405, 422), response.text


@pytest.mark.parametrize("name", ["..%2f..%2fREADME.md", "../../README", "%2fetc%2fpasswd", "a%2f..%2fflux_upscale"])
async def test_no_name_leads_out_of_the_folder_of_workflows(service: Service, name: str) -> None:
    response = await service.client.get(f"{WORKFLOWS}{name}")
    assert response.status_code in (404, 422)
    assert "graph" not in response.json()


# ---- refused -------------------------------------------------------------------------------------------------------


async def test_every_fault_is_named_with_its_node_and_nothing_is_kept(service: Service) -> None:
    graph = await graph_of(service)
    graph["9"]["inputs"] |= {"steps": 0, "sampler_name": "magic"}
    graph["8"]["class_type"] = "EmptySD3LatentImge"
    graph["4"]["_meta"]["title"] = "Prompt [[txt]]"
    graph["10"]["inputs"]["vae"] = ["3", 7]
    before = await service.traces()
    problem = assert_problem(await keep(service, graph=graph), 422, "workflow_invalid")
    where = {tuple(error["loc"]): error["type"] for error in problem["errors"]}
    assert where == {
        ("body", "graph", "9", "inputs", "steps"): "workflow_value_invalid",
        ("body", "graph", "9", "inputs", "sampler_name"): "workflow_value_invalid",
        ("body", "graph", "8"): "workflow_node_unknown",
        ("body", "graph", "4"): "workflow_marker_invalid",
        ("body", "graph", "10", "inputs", "vae"): "workflow_link_invalid",
    }
    (unknown,) = (error for error in problem["errors"] if error["type"] == "workflow_node_unknown")
    assert unknown["msg"].startswith(
        'Node 8 "Size" (EmptySD3LatentImge): there is no node of this class. Did you mean EmptySD3LatentImage or '
    )
    assert unknown["input"] == "EmptySD3LatentImge"
    assert await service.traces() == before


@pytest.mark.parametrize(
    ("graph", "code"),
    [
        ({}, "workflow_malformed"),
        ({"nodes": [], "links": [], "version": 0.4}, "workflow_ui_format"),
        ({"last_node_id": 9, "nodes": [{"id": 1}], "links": []}, "workflow_ui_format"),
        ({str(n): {} for n in range(501)}, "workflow_too_many_nodes"),
        ({"1": 5}, "workflow_invalid"),
    ],
)
async def test_what_is_no_graph_in_api_format_is_refused(service: Service, graph: dict[str, Any], code: str) -> None:
    assert_problem(await keep(service, graph=graph), 422, code)


async def test_the_canvas_own_format_is_told_how_to_export(service: Service) -> None:
    problem = assert_problem(await keep(service, graph={"nodes": [], "links": []}), 422, "workflow_ui_format")
    assert "Export (API)" in problem["hint"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({**BASE, "1": {**BASE["1"], "unet_name": "../../../etc/passwd"}}, "workflow_path_refused"),
        ({"7": {"class_type": "SaveLatent"}}, "workflow_node_not_allowed"),
        ({"7": {"class_type": "LoadImageDataSetFromFolder", "folder": "/"}}, "workflow_node_not_allowed"),
        ({"7": {"class_type": "OpenAIDalle3"}}, "workflow_node_unknown"),
        ({"6": {"filename_prefix": "../../x"}}, "workflow_path_refused"),
        ({"1": {"ckpt_name": "gone.safetensors"}}, "workflow_model_missing"),
    ],
)
async def test_a_graph_that_reaches_for_files_is_refused(service: Service, changes: dict[str, Any], code: str) -> None:
    assert code in codes(assert_problem(await keep(service, graph=changed(changes)), 422, "workflow_invalid"))


async def test_a_workflow_of_ten_megabytes_is_not_read(service: Service) -> None:
    graph = {"1": {"class_type": "x" * 10_000_000, "inputs": {}}}
    assert_problem(await keep(service, graph=graph), 413, "body_too_large")


async def test_a_large_workflow_full_of_faults_has_an_answer_of_bearable_size(service: Service) -> None:
    graph = {str(n): {"class_type": f"{n}" + "x" * 1500, "inputs": {"y" * 100: ["z", 0]}} for n in range(400)}
    assert len(json.dumps(graph)) < MAX_JSON_BYTES
    assert len(assert_problem(await keep(service, graph=graph), 422, "workflow_invalid")["errors"]) == 50


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "-a", "a" * 65, "a b", "ä", "a\n", None, 5])
async def test_a_name_is_plain(service: Service, name: object) -> None:
    response = await service.client.post(WORKFLOWS, json={"name": name, "graph": {"1": {}}})
    problem = assert_problem(response, 422, "validation_failed")
    assert ["body", "name"] in [error["loc"] for error in problem["errors"]]


@pytest.mark.parametrize("value", ["NaN", '"a\\u0000b"', '"\\ud800"', "[" * 40 + "]" * 40])
async def test_a_graph_holds_nothing_that_a_database_cannot(service: Service, value: str) -> None:
    content = f'{{"name": "mine", "graph": {{"1": {{"x": {value}}}}}}}'
    response = await service.client.post(WORKFLOWS, content=content, headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "validation_failed")


async def test_a_name_is_given_once_until_it_is_free_again(any_service: Service) -> None:
    assert (await keep(any_service)).status_code == 201
    for name in ("mine", *SHIPPED):
        assert_problem(await keep(any_service, name), 409, "workflow_exists")
    assert (await any_service.client.delete(f"{WORKFLOWS}mine")).status_code == 204
    assert_problem(await any_service.client.delete(f"{WORKFLOWS}mine"), 404, "workflow_not_found")
    assert (await keep(any_service)).status_code == 201


async def test_a_shipped_workflow_stays(service: Service) -> None:
    assert_problem(await service.client.delete(f"{WORKFLOWS}flux_inpaint"), 409, "workflow_shipped")


async def test_models_of_the_installation_may_be_named(service: Service) -> None:
    folder = service.settings.masuka_data_dir / "comfyui" / "models" / "checkpoints"
    folder.mkdir(parents=True)
    assert codes(assert_problem(await keep(service, graph=changed({})), 422, "workflow_invalid"))
    (folder / "base.safetensors").touch()
    assert (await keep(service, graph=changed({}))).status_code == 201


async def test_a_custom_node_is_used_once_it_is_allowed_and_installed(settings: Settings, valkey_url: str) -> None:
    allowed = with_values(settings, redis_url=valkey_url, masuka_allowed_nodes="Sparkle")
    async with serving(allowed) as service:
        graph = await graph_of(service)
        graph["50"] = {"class_type": "Sparkle", "inputs": {"image": ["10", 0]}, "_meta": {"title": "Sparkle"}}
        graph["11"]["inputs"]["images"] = ["50", 0]
        problem = assert_problem(await keep(service, graph=graph), 422, "workflow_invalid")
        assert codes(problem) == ["workflow_node_not_installed"]
        async with service.resources.sessions() as session:
            catalogue = await node_catalogue.current(session, allowed)
        spec = {"input": {"required": {"image": ["IMAGE", {}]}}, "output": ["IMAGE"], "python_module": "custom_nodes.x"}
        await node_catalogue.record(service.resources.sessions, {**raw(catalogue.specs), "Sparkle": spec})
        assert (await keep(service, graph=graph)).status_code == 201


def raw(specs: Any) -> dict[str, Any]:
    return {name: dict(spec) for name, spec in specs.items()}


async def test_what_this_comfyui_says_goes_before_what_the_pinned_one_said(service: Service) -> None:
    async with service.resources.sessions.begin() as session:
        specs = raw((await node_catalogue.current(session, service.settings)).specs)
        specs["KSampler"] = copy.deepcopy(specs["KSampler"])
        specs["KSampler"]["input"]["required"]["steps"][1]["max"] = 7
        session.add(EngineSnapshot(engine="comfyui", nodes=specs))
    problem = assert_problem(await keep(service), 422, "workflow_invalid")
    assert problem["errors"][0]["msg"].endswith("steps must be at most 7.")


# ---- run -----------------------------------------------------------------------------------------------------------


async def test_a_run_is_a_picture_with_every_choice_written_down(any_service: Service) -> None:
    assert (await keep(any_service)).status_code == 201
    response = await run(any_service, "mine", parameters={"prompt": "a cat", "seed": 7, "sampler": "heun"})
    asset = await asset_of(any_service, response)
    config = asset["generation_config"]
    assert (asset["prompt"], asset["status"], response.json()["seed"]) == ("a cat", "pending", 7)
    assert (config["workflow"], config["base_model"], config["seed"]) == ("mine", "flux-dev", 7)
    assert (config["num_inference_steps"], config["width"], config["guidance_scale"]) == (28, 1024, 3.5)
    assert config["parameters"] == {"sampler": "heun", "scheduler": "simple"}


async def test_several_pictures_have_seeds_in_a_row(service: Service) -> None:
    answer = (await run(service, num_images=3, parameters={"seed": 40})).json()
    assets = [(await service.client.get(f"/api/assets/{asset_id}")).json() for asset_id in answer["asset_ids"]]
    assert [asset["generation_config"]["seed"] for asset in assets] == [40, 41, 42]
    problem = await run(service, num_images=2, parameters={"seed": 2**53 - 1})
    assert_problem(problem, 422, "seed_out_of_range")


async def test_every_wrong_parameter_is_named_and_nothing_is_queued(service: Service) -> None:
    before = await service.traces()
    parameters = {"width": 100, "sede": 1, "prompt": 5, "image": "../../etc/passwd", "filename_prefix": "../x"}
    response = await run(service, "flux_inpaint", parameters=parameters)
    problem = assert_problem(response, 422, "validation_failed")
    assert {tuple(error["loc"]): error["type"] for error in problem["errors"]} == {
        ("body", "parameters", "width"): "workflow_parameter_invalid",
        ("body", "parameters", "sede"): "workflow_parameter_unknown",
        ("body", "parameters", "prompt"): "workflow_parameter_invalid",
        ("body", "parameters", "image"): "workflow_parameter_invalid",
        ("body", "parameters", "filename_prefix"): "workflow_parameter_unknown",
        ("body", "parameters", "mask"): "workflow_parameter_missing",
    }
    assert await service.traces() == before


async def test_an_upscaled_picture_is_no_larger_than_allowed(service: Service) -> None:
    response = await run(service, "flux_upscale", parameters={"upscale_by": 2.1})
    problem = assert_problem(response, 422, "validation_failed")
    assert problem["errors"][0]["loc"] == ["body", "parameters", "upscale_by"]
    assert (await run(service, "flux_upscale", parameters={"upscale_by": 2})).status_code == 202


async def test_a_picture_to_start_from_must_be_there(service: Service, any_input: str) -> None:
    pending = (await service.pictures())["asset_id"]
    for picture, said in ((NOBODY, "no asset and no input"), (pending, "has no file: it is pending")):
        response = await run(service, "flux_image_to_image", parameters={"image": picture})
        problem = assert_problem(response, 422, "validation_failed")
        assert problem["errors"][0]["type"] == "input_not_found"
        assert said in problem["errors"][0]["msg"]
    asset = await asset_of(service, await run(service, "flux_image_to_image", parameters={"image": any_input}))
    assert asset["generation_config"]["inputs"]["image"]["id"] == any_input
    (path,) = (path for path in service.files() if "inputs" in path.parts)
    path.unlink()
    response = await run(service, "flux_image_to_image", parameters={"image": any_input})
    assert "gone from the storage" in assert_problem(response, 422, "validation_failed")["detail"]


@pytest.fixture
async def any_input(service: Service) -> str:
    response = await service.client.post("/api/inputs/", files={"file": ("a.png", png())})
    return str(response.json()["input_id"])


async def test_a_workflow_that_this_comfyui_cannot_run_any_more_is_not_queued(service: Service) -> None:
    assert (await keep(service)).status_code == 201
    async with service.resources.sessions.begin() as session:
        specs = raw((await node_catalogue.current(session, service.settings)).specs)
        del specs["FluxGuidance"]
        session.add(EngineSnapshot(engine="comfyui", nodes=specs))
    before = await service.traces()
    problem = assert_problem(await run(service, "mine"), 422, "workflow_invalid")
    assert codes(problem) == ["workflow_node_not_installed"]
    assert await service.traces() == before


async def test_the_base_model_must_be_installed(service: Service) -> None:
    await service.pulse("flux-tiny")
    response = await service.client.post(f"{WORKFLOWS}flux_upscale/run", json={})
    assert_problem(response, 503, "base_model_not_installed")


# ---- LoRAs ---------------------------------------------------------------------------------------------------------


async def test_trigger_words_are_in_the_prompt_that_is_sent(service: Service) -> None:
    first = await service.model(trigger_word="ohwx")
    second = (await service.import_lora(tiny_lora(rank=8), name="other", trigger_word="sks dog")).json()
    stack = [{"model_id": first["id"], "scale": 2}, {"model_id": second["id"], "scale": -2.0}]
    sent = "ohwx, a SKS dog"
    asset = await asset_of(service, await run(service, loras=stack, parameters={"prompt": "a SKS dog"}))
    assert (asset["prompt"], asset["generation_config"]["prompt_sent"]) == ("a SKS dog", sent)
    assert [lora["scale"] for lora in asset["generation_config"]["loras"]] == [2, -2.0]
    body = {"prompt": "a SKS dog", "model_id": first["id"], "loras": stack[1:]}
    by_generate = (await service.pictures(**body))["asset_id"]
    config = (await service.client.get(f"/api/assets/{by_generate}")).json()["generation_config"]
    assert config["prompt_sent"] == sent
    asset = await asset_of(
        service, await run(service, loras=stack, add_trigger_words=False, parameters={"prompt": "x"})
    )
    assert asset["generation_config"]["prompt_sent"] == "x"


async def test_a_stack_is_judged_before_anything_is_queued(service: Service) -> None:
    model = await service.model()
    one = {"model_id": model["id"]}
    assert_problem(await run(service, loras=[one, one]), 422, "lora_repeated")
    assert_problem(await run(service, loras=[one], base_model="flux-dev"), 422, "lora_base_mismatch")
    assert_problem(await run(service, loras=[{"model_id": NOBODY}]), 404, "model_not_found")
    assert_problem(await run(service, loras=[{**one, "scale": 2.1}]), 422, "validation_failed")
    assert_problem(await run(service, loras=[{"model_id": NOBODY}] * 9), 422, "validation_failed")
    graph = await graph_of(service)
    graph["1"]["_meta"]["title"] = "Base model [[unet_name, weight_dtype]]"
    assert (await keep(service, graph=graph)).json()["takes_loras"] is False
    problem = assert_problem(await run(service, "mine", loras=[one]), 422, "workflow_without_loras")
    assert "[[@loras]]" in problem["hint"]


async def test_a_lora_that_the_graph_names_brings_its_base_model_and_its_file(service: Service) -> None:
    model = await service.model()
    graph = await graph_of(service)
    graph["20"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"lora_name": model["file_name"], "strength_model": 1, "model": ["1", 0]},
    }
    graph["7"]["inputs"]["model"] = ["20", 0]
    assert (await keep(service, graph=graph)).status_code == 201
    config = (await asset_of(service, await run(service, "mine")))["generation_config"]
    assert (config["base_model"], [lora["file"] for lora in config["fixed_loras"]]) == (
        "flux-tiny",
        [model["file_name"]],
    )
    graph["20"]["inputs"]["lora_name"] = "unknown.safetensors"
    assert codes(assert_problem(await keep(service, "other", graph=graph), 422, "workflow_invalid")) == [
        "workflow_model_missing"
    ]


# ---- by generate ---------------------------------------------------------------------------------------------------


async def test_generate_takes_ones_own_workflow_and_its_defaults(service: Service) -> None:
    graph = await graph_of(service)
    graph["9"]["inputs"]["steps"] = 6
    graph["6"]["_meta"]["title"] = "Guidance"
    assert (await keep(service, graph=graph)).status_code == 201
    answer = await service.pictures(workflow="mine", width=512)
    config = (await service.client.get(f"/api/assets/{answer['asset_id']}")).json()["generation_config"]
    assert (config["workflow"], config["num_inference_steps"], config["width"]) == ("mine", 6, 512)
    assert "guidance_scale" not in config
    body = {"prompt": "x", "workflow": "mine", "guidance_scale": 2.0}
    problem = assert_problem(await service.client.post("/api/generate/image", json=body), 422, "validation_failed")
    assert problem["errors"][0]["loc"] == ["body", "guidance_scale"]


async def test_the_same_key_keeps_and_runs_once(service: Service) -> None:
    graph, key = await graph_of(service), {"Idempotency-Key": "k1"}
    body = {"name": "mine", "graph": graph}
    first, second = [await service.client.post(WORKFLOWS, json=body, headers=key) for _ in range(2)]
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    await service.pulse("flux-dev")
    runs = [
        (await service.client.post(f"{WORKFLOWS}mine/run", json={}, headers={"Idempotency-Key": "k2"})).json()
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(ids((await service.client.get("/api/assets/")).json()["items"])) == 1
