"""`/object_info` read: both generations of nodes, without what belongs to one machine."""

from typing import Any

from api.domain.nodes import InputKind, NodeCatalogue, slim

INFO: dict[str, dict[str, Any]] = {
    "Old": {
        "input": {
            "required": {
                "model": ["MODEL", {"tooltip": "words"}],
                "mode": [["a", "b"], {"default": "b", "tooltip": "words"}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 100, "step": 1, "display": "slider"}],
            },
            "optional": {"either": ["INT,FLOAT", {"forceInput": True}]},
            "hidden": {"prompt": "PROMPT"},
        },
        "output": ["MODEL", ["a", "b"]],
        "output_node": False,
        "python_module": "nodes",
        "description": "words",
    },
    "New": {
        "input": {"required": {"mode": ["COMBO", {"options": ["x", 1], "multiselect": False}]}},
        "output": None,
        "output_node": True,
        "python_module": "custom_nodes.mine",
    },
    "VAELoader": {"input": {"required": {"vae_name": [["mine.safetensors"]]}}, "output": ["VAE"]},
}
CATALOGUE = NodeCatalogue(slim(INFO), {"Old", "VAELoader"})


def test_what_judges_a_graph_is_kept_and_prose_and_files_are_not() -> None:
    found = slim(INFO)
    assert found["Old"] == {
        "input": {
            "required": {
                "model": ["MODEL"],
                "mode": [["a", "b"], {"default": "b"}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 100, "step": 1}],
            },
            "optional": {"either": ["INT,FLOAT"]},
        },
        "output": ["MODEL", "COMBO"],
        "output_node": False,
        "python_module": "nodes",
    }
    assert found["New"]["input"]["required"]["mode"] == [["x", "1"]]
    assert found["VAELoader"]["input"]["required"]["vae_name"] == [[]]


def test_a_class_is_found_if_it_is_there_and_allowed() -> None:
    old = CATALOGUE.find("Old")
    assert old is not None
    assert (old.outputs, old.is_output) == (("MODEL", "COMBO"), False)
    assert {name: about.kind for name, about in old.inputs.items()} == {
        "model": InputKind.LINK,
        "mode": InputKind.CHOICE,
        "steps": InputKind.INTEGER,
        "either": InputKind.LINK,
    }
    assert [name for name, about in old.inputs.items() if not about.required] == ["either"]
    assert CATALOGUE.find("New") is None
    assert NodeCatalogue({}, {"Old"}).find("Old") is None


def test_a_file_is_known_by_its_folder() -> None:
    loader = CATALOGUE.find("VAELoader")
    assert loader is not None
    assert (loader.inputs["vae_name"].folder, loader.inputs["vae_name"].choices) == ("vae", ())


def test_only_what_may_be_used_is_suggested() -> None:
    assert CATALOGUE.like("vaeloder") == ["VAELoader"]
    assert CATALOGUE.like("Neww") == []
